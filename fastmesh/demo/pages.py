"""The texts of the sample site, in Unicode; site.py gives each its charset."""

from __future__ import annotations

from typing import Final

ENGLISH: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Backpressure, or how to say “not so fast”</title>
<meta name="description" content="What a producer should do when its reader is slower than itself.">
<meta name="author" content="Ada Sample">
<meta property="article:published_time" content="2026-03-14">
<link rel="canonical" href="/articles/backpressure">
</head>
<body>
<nav><a href="/">Home</a> <a href="/notes.txt">Notes</a> <a href="/feed.xml">Feed</a></nav>
<main>
<h1>Backpressure, or how to say “not so fast”</h1>
<p>A stream has two ends, and they rarely agree about speed. When the reader is the slower one, every
byte that is produced anyway has to be <em>somewhere</em>: in a queue, in the kernel, or on the floor.</p>
<h2>Three answers</h2>
<table>
<tr><th>answer</th><th>costs</th><th>good for</th></tr>
<tr><td>wait</td><td>time</td><td>batches</td></tr>
<tr><td>drop</td><td>data</td><td>live figures</td></tr>
<tr><td>disconnect</td><td>a client</td><td>nobody who reads</td></tr>
</table>
<h2>The first one, in six lines</h2>
<pre><code class="language-python">async def produce(pages, window):
    for page in pages:
        while window.full:
            await window.room()
        window.append(await fetch(page))
    window.close()
</code></pre>
<p>The same idea is older than computers: see <a href="/articles/onsen">a bath house</a> that lets in as many
guests as it has towels, or read <a href="https://www.rfc-editor.org/rfc/rfc9293">how TCP does it</a>.</p>
</main>
<footer>A page of the fastmesh sample site.</footer>
</body>
</html>
"""

RUSSIAN: Final = """<!doctype html>
<html lang="ru">
<head>
<title>Чай в дороге: заметки о самоваре</title>
<meta name="description" content="Зачем в поезде самовар.">
</head>
<body>
<article>
<h1>Чай в дороге</h1>
<p>В длинной дороге самовар важнее расписания. Проводник приносит стакан в подстаканнике, за окном
тянется лес, и никто никуда не спешит.</p>
<ul>
<li>вода кипит долго, но один раз;</li>
<li>заварку пьют свежей;</li>
<li>сахар — вприкуску.</li>
</ul>
<p>Эта страница отдана в кодировке windows-1251, и сказано об этом только в заголовке ответа.
<a href="/">На главную</a>.</p>
</article>
</body>
</html>
"""

JAPANESE: Final = """<!doctype html>
<html lang="ja">
<head>
<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">
<title>山の温泉案内</title>
</head>
<body>
<main>
<h1>山の温泉案内</h1>
<p>この温泉は山の奥にあり、駅から歩いて一時間かかります。冬は雪が深いので、長い靴が必要です。</p>
<table>
<tr><th>湯</th><th>温度</th></tr>
<tr><td>檜の湯</td><td>四十二度</td></tr>
<tr><td>岩の湯</td><td>三十九度</td></tr>
</table>
<p>このページの文字コードは、ページの中だけに書いてあります。<a href="/">最初のページ</a></p>
</main>
</body>
</html>
"""

GERMAN: Final = """<!doctype html>
<html lang="de">
<head>
<title>Brot backen für Geübte &amp; Ungeübte</title>
</head>
<body>
<article>
<h1>Brot backen für Geübte &amp; Ungeübte</h1>
<p>Ein gutes Brot braucht Mehl, Wasser, Salz und vor allem Zeit. Über Nacht geht der Teig von selbst auf;
wer ihn drängt, bäckt Ziegel.</p>
<ol>
<li>500 g Mehl mit 350 g Wasser verrühren und ruhen lassen.</li>
<li>100 g Sauerteig und 10 g Salz einkneten.</li>
<li>Zwölf Stunden später: falten, formen, backen.</li>
</ol>
<p>Dies hier kommt als ISO-8859-1. <a href="/">Zur Startseite</a></p>
</article>
</body>
</html>
"""

XHTML: Final = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
<head><title>A well-formed page</title></head>
<body>
<h1>A well-formed page</h1>
<p>Every element is closed,<br />every attribute is quoted, and <a href="/">home</a> is one link away.</p>
</body>
</html>
"""

FEED: Final = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0">
<channel>
<title>The sample site</title>
<link>/</link>
<description>News from a site that never changes.</description>
<item><title>Backpressure</title><link>/articles/backpressure</link></item>
<item><title>山の温泉案内</title><link>/articles/onsen</link></item>
</channel>
</rss>
"""

NOTES: Final = """Notes

A text file is a page as well. It has no title, but it has words,
and whoever wrote it did not need a framework.
"""

DATA: Final = '{"name": "sample", "readings": [20.5, 21.0, 19.75], "unit": "°C", "ok": true}\n'

# What a page may try on a program that prints its title: a terminal's escapes, markup, text that runs backwards.
HOSTILE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8">
<title>[bold red]not red[/] &#27;[31mnor this&#27;[0m \u202edrawkcab</title></head>
<body><p>The title of this page wants to be obeyed, not read.</p></body>
</html>
"""


def simple(title: str, text: str) -> str:
    """A small page."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n'
        f'<body><h1>{title}</h1><p>{text}</p><p><a href="/">home</a></p></body>\n</html>\n'
    )


def many_links(count: int) -> str:
    """A page that is mostly links."""
    links = "".join(f'<li><a href="/archive/{number}">Entry {number}</a></li>\n' for number in range(1, count + 1))
    return simple(f"An archive of {count:,} links", f"<ul>\n{links}</ul>")


def paper(title: str) -> bytes:
    """A PDF of one page with that title, in ASCII."""
    content = f"BT /F1 24 Tf 72 720 Td ({title}) Tj 0 -36 Td /F1 12 Tf (A paper is a page, too.) Tj ET".encode("ascii")
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        b"<< /Title (%b) >>" % title.encode("ascii"),
    )
    text, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(text))
        text += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 6 /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(text)
    return text + b"xref\n0 6\n0000000000 65535 f \n" + table + trailer
