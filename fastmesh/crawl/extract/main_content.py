"""The main content of a page: what an editor wrote for it, without what every page of the site has.

Three steps, each in one pass over a tree that was parsed already: take the smallest element that names itself the
content and is large enough, remove what names itself furniture, remove blocks that are nothing but links.  Thresholds
were chosen on half of trafilatura's evaluation set; docs/benchmarks.md has the figures of both halves.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from turbohtml import Document, Element

from fastmesh.crawl.extract.grids import laid_out
from fastmesh.crawl.extract.page import MAX_CHARS_LOOKED_AT, Page

# Never of the main content, wherever they stand.  A caption is most often a credit.
FURNITURE: Final = (
    "body > header, nav, aside, footer, dialog, button, select, textarea, iframe, object, menu, figcaption, "
    "[hidden], [aria-hidden=true], a.headerlink, [role=navigation], [role=banner], [role=contentinfo], "
    "[role=complementary], [role=search], [role=dialog]"
)
# Elements that name themselves the content; the surest first.
CONTENT: Final = (
    "[itemprop=articleBody]",
    ", ".join(
        f".{name}"
        for name in (
            "entry-content post-content article-content article-body article__body articleBody post-body story-body "
            "post-entry entry article-text postcontent field-name-body single-content blog-content content-body "
            "theme-content post_content article_text post-text text-content postarea art-postcontent article-entry"
        ).split()
    )
    + ", #article-body, #articleContent",
    "article",
    "[role=main], main",
    "#content, .content, #main, .main, #main-content, .main-content, .page-content",
)
# What furniture is called, as a word of a class or an id.
NAMES: Final = re.compile(
    r"""(?:^|[\s_-])(?:
    advert\w*|ads?|banner|breadcrumbs?|byline|authors?|bio|comments?|cookies?|consent|copyright|date|disqus\w*|
    feedback|footer\w*|hidden|jp-\w+|kommentar\w*|legal|login|masthead|menu|meta|metadata|modal|more-?\w+|most-?read|
    nav|navbar|navi|navigation|newsletter|noprint|outbrain|overlay|pager|pagination|popup|popular|post-?meta|
    post-?nav\w*|posted-on|prev-?next|print-only|promo\w*|published|read-?more|recommend\w*|related\w*|respond|rss|
    see-?also|share\w*|sharing|sidebar\w*|signup|sitemap|skip|socials?|social-?\w*|sphinxsidebar|sponsor\w*|subscribe|
    subscription|taboola|tagcloud|taglist|tags|teasers?|teaser__\w+|timestamp|toc|toolbar|trending|widgets?|widget-?title
    )(?=$|[\s_-])""",
    re.IGNORECASE | re.VERBOSE,
)
NAMED: Final = tuple("div section ul ol p span header table dl h2 h3 h4 h5 li td a time form".split())
# Not an item or a heading by itself: content has such with a link and little else.
BLOCKS: Final = "ul, ol, div, section, p, table, dl"

# Content is at least so much of the page, else the next candidate is asked.
MIN_CHARS, MIN_SHARE = 250, 0.10
# Several that are alike (the cards of a list) are no content, unless one has so much of the text of all.
DOMINANT_SHARE: Final = 0.5
SCORED_SHARE: Final = 0.4
# An element with more of the content is kept whatever it is called: "widget" may be any part of a page.
NAMED_SHARE: Final = 0.25
# A block of links: a short one of little else, a longer one of several links.
SHORT_CHARS, SHORT_LINK_SHARE, LONG_CHARS, LONG_LINK_SHARE, MANY_LINKS = 200, 0.8, 1000, 0.6, 3
# A page of which so much is links is a list on purpose.
LIST_SHARE: Final = 0.5
# With less left than this, the page had nothing but furniture.
MIN_LEFT_CHARS, MIN_LEFT_SHARE = 100, 0.2

# Bounds on the work: the text of nested elements is looked at again and again.
MAX_CANDIDATES: Final = 20
MAX_ELEMENTS: Final = 20_000


class MainContent(NamedTuple):
    """The main content of a page; ``markdown`` only when it was asked for."""

    text: str
    markdown: str | None


def read_main(page: Page, *, markdown: bool) -> MainContent:
    """The fast grade: the main content, a millisecond a page; the whole page when it has nothing but furniture."""
    main = find_main(page.tree) or page.parsed_again().tree
    written = main.to_markdown() if markdown else None  # first: the text may change the tables
    return MainContent(laid_out(main), written)


def find_main(tree: Document) -> Element | None:
    """The main content without furniture; None when next to nothing would be left.  It changes *tree*."""
    body = tree.select_one("body")
    if body is None:
        return None  # a frameset
    whole = len(body.text)
    body.remove(FURNITURE)
    rest = len(body.text)
    main = _named_content(body, rest) or body
    if main is body:
        scored = body.main_content()
        if scored is not None and len(scored.text) >= rest * SCORED_SHARE:
            main = scored
    if sum(1 for _ in main.iter_elements()) <= MAX_ELEMENTS:
        budget = _Budget()
        _drop_named(main, budget)
        _drop_link_blocks(main, budget)
    left = len(main.text.strip())
    return main if left >= min(MIN_LEFT_CHARS, MIN_LEFT_SHARE * whole) and left else None


class _Budget:
    """Measures texts until it has looked at too many characters; then every text is endless, and none is removed."""

    def __init__(self) -> None:
        self._left_chars = MAX_CHARS_LOOKED_AT

    def chars_of(self, element: Element) -> float:
        return self._chars(element.text.strip() if self._left_chars >= 0 else "")

    def chars_of_link(self, element: Element) -> float:
        return self._chars(element.text if self._left_chars >= 0 else "")

    def _chars(self, text: str) -> float:
        if self._left_chars < 0:
            return float("inf")
        self._left_chars -= len(text)
        return len(text)


def _named_content(body: Element, rest: int) -> Element | None:
    for selector in CONTENT:
        candidates = body.select(selector)[:MAX_CANDIDATES]
        if candidates:
            sizes = [len(candidate.text) for candidate in candidates]
            largest = max(sizes)
            if largest > max(MIN_CHARS, MIN_SHARE * rest) and largest >= DOMINANT_SHARE * sum(sizes):
                return candidates[sizes.index(largest)]
    return None


def _drop_named(main: Element, budget: _Budget) -> None:
    most = budget.chars_of(main) * NAMED_SHARE
    for element in list(main.iter_elements(NAMED)):
        called = element.attr("class")
        name = element.attr("id")
        if (
            (called and NAMES.search(called)) or (name and NAMES.search(name)) or element.tag == "form"
        ) and budget.chars_of(element) <= most:
            element.decompose()


def _drop_link_blocks(main: Element, budget: _Budget) -> None:
    if _link_chars(main, budget) >= LIST_SHARE * len(main.text):
        return
    for block in main.select(BLOCKS):
        links = block.find_all("a")
        if not links:
            continue
        chars = budget.chars_of(block)
        if not 0 < chars < LONG_CHARS:
            continue
        linked = sum(len(link.text) for link in links) / chars
        if (chars < SHORT_CHARS and linked > SHORT_LINK_SHARE) or (
            len(links) > MANY_LINKS and linked > LONG_LINK_SHARE
        ):
            block.decompose()


def _link_chars(element: Element, budget: _Budget) -> float:
    return sum(map(budget.chars_of_link, element.find_all("a")))
