"""What fills a stream: URLs, or a firehose."""
