"""The parts of a document, read from a page's text.

The only file that knows the HTML parser.  turbohtml parses an 88-KB page of the
Python documentation in 0.4 ms and renders text and Markdown of the same tree;
its own choice of the main content took a fragment for the whole on 136 of 530
such pages, so landmarks decide first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from math import ceil
from typing import Any, Final, NotRequired, TypedDict

import ada_url
from turbohtml import Document as Tree
from turbohtml import Namespace, Node, parse

MAX_METADATA_CHARS: Final = 2000
MAX_URL_CHARS: Final = 8192
MAX_IMAGES: Final = 100
WORDS_PER_MINUTE: Final = 200

LINK_SCHEMES: Final = ("http:", "https:", "mailto:")
IMAGE_SCHEMES: Final = ("http:", "https:")

# Never of the main content, wherever they stand.
FURNITURE: Final = (
    "nav, aside, footer, dialog, template, noscript, [hidden], [aria-hidden=true], a.headerlink, "
    "[role=navigation], [role=banner], [role=contentinfo], [role=complementary], [role=search], [role=dialog]"
)
# Only where a page has no main or article: what such pages call their furniture.
NAMED_FURNITURE: Final = f"{FURNITURE}, body > header" + "".join(
    f", .{name}, #{name}"
    for name in (
        "advertisement breadcrumb breadcrumbs cookie-banner cookies footer menu nav navbar navigation pagination "
        "related sidebar site-footer site-header skip-link sphinxsidebar toc"
    ).split()
)
# A landmark with less of the page's text than this is not where the content is.
MAIN_SHARE, ARTICLE_SHARE, SCORED_SHARE, REST_SHARE = 0.02, 0.5, 0.6, 0.2

DESCRIPTIONS: Final = ("description", "og:description", "twitter:description", "dc.description")
BYLINES: Final = ("author", "article:author", "parsely-author", "dc.creator")
DATES: Final = ("article:published_time", "datepublished", "date", "parsely-pub-date", "dc.date", "dcterms.created")
SITES: Final = ("og:site_name", "application-name")

_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


class Link(TypedDict):
    """One ``a[href]``."""

    url: str
    text: str
    rel: str | None


class Image(TypedDict):
    """One image of the page."""

    type: str
    url: str
    alt: str


class Document(TypedDict):
    """Contract section 4.  Parts that were not asked for are None; ``html`` and ``truncated`` are then absent."""

    title: str | None
    byline: str | None
    published: str | None
    language: str | None
    site_name: str | None
    description: str | None
    canonical_url: str | None
    text: str | None
    markdown: str | None
    links: list[Link] | None
    media: list[Image] | None
    word_count: int
    reading_time_min: int
    html: NotRequired[str]
    truncated: NotRequired[bool]


def read_html(html: str, url: str, include: frozenset[str]) -> Document:
    """The document of a page; *html* may be broken anywhere.  May raise what the parser raises."""
    page = _Page(parse(html, positions=False), url)
    document = _empty()
    document["title"] = page.title()
    if "metadata" in include:
        document.update(page.metadata())  # type: ignore[typeddict-item]
    links, images = page.links(), page.images()
    if "links" in include:
        document["links"] = links
    if "metadata" in include:
        document["media"] = images
    main = _main(page.tree)
    if main is None:
        page = _Page(parse(html, positions=False), url)
        page.links()
        page.images()
        main = page.tree
    text = main.to_text()
    _count(document, text)
    if "text" in include:
        document["text"] = text
    if "markdown" in include:
        document["markdown"] = main.to_markdown()
    if "html" in include:
        document["html"] = html
    return document


def read_text(text: str, include: frozenset[str]) -> Document:
    """The document of plain text: itself; it has no title."""
    document = _empty()
    _count(document, text)
    if "text" in include:
        document["text"] = text
    if "markdown" in include:
        document["markdown"] = text
    if "links" in include:
        document["links"] = []
    if "metadata" in include:
        document["media"] = []
    if "html" in include:
        document["html"] = text
    return document


class _Page:
    """Reads a tree, and makes its URLs absolute."""

    def __init__(self, tree: Tree, url: str) -> None:
        self.tree = tree
        base = tree.select_one("base[href]")
        self._base = url
        if base is not None:
            # A base that is no http URL is not followed: nothing could be fetched from there.
            self._base = self._absolute(base.attr("href"), IMAGE_SCHEMES) or url

    def title(self) -> str | None:
        titles = (title.text for title in self.tree.iter_elements("title") if title.namespace is Namespace.HTML)
        heading = self.tree.find("h1")
        candidates = (next(titles, ""), self._meta("og:title"), heading.text if heading is not None else "")
        return next((title for title in map(_collapsed, candidates) if title), None)

    def links(self) -> list[Link]:
        """Every link, in the page's order; those that are none lose their href, for Markdown's sake."""
        links: list[Link] = []
        for anchor in self.tree.select("a[href]"):
            url = self._absolute(anchor.attr("href"), LINK_SCHEMES)
            if url is None:
                del anchor.attrs["href"]
                continue
            anchor.attrs["href"] = url
            rel = _collapsed(anchor.attr("rel"))
            links.append({"url": url, "text": _collapsed(anchor.text), "rel": rel or None})
        return links

    def images(self) -> list[Image]:
        """The first MAX_IMAGES images; those that are none, or are written out in their URL, leave the tree."""
        images: dict[str, Image] = {}
        for image in self.tree.select("img"):
            url = self._absolute(image.attr("src"), IMAGE_SCHEMES)
            if url is None:
                image.decompose()
                continue
            image.attrs["src"] = url
            if len(images) < MAX_IMAGES and url not in images:
                images[url] = {"type": "image", "url": url, "alt": _bounded(image.attr("alt")) or ""}
        return list(images.values())

    def metadata(self) -> dict[str, str | None]:
        said = _LinkedData(self.tree)
        return {
            "byline": self._first(BYLINES) or said.name_in("author"),
            "published": self._first(DATES) or said.text_in("datePublished"),
            "language": self._language(),
            "site_name": self._first(SITES) or said.name_in("publisher"),
            "description": self._first(DESCRIPTIONS) or said.text_in("description"),
            "canonical_url": self._canonical(),
        }

    def _language(self) -> str | None:
        root = self.tree.root
        said = None if root is None else root.attr("lang") or root.attr("xml:lang")
        return _bounded(said) or self._meta("content-language")

    def _canonical(self) -> str | None:
        link = self.tree.select_one("link[rel~=canonical i][href]")
        return self._absolute(link.attr("href") if link is not None else self._meta("og:url"), IMAGE_SCHEMES)

    def _first(self, names: Iterable[str]) -> str | None:
        return next((said for said in map(self._meta, names) if said), None)

    def _meta(self, name: str) -> str | None:
        return _bounded(self._metas.get(name))

    @cached_property
    def _metas(self) -> dict[str, str]:
        """The first content of each meta's name, property, itemprop or http-equiv, in lower case."""
        metas: dict[str, str] = {}
        for meta in self.tree.iter_elements("meta"):
            content = meta.attr("content")
            if content:
                for attribute in ("name", "property", "itemprop", "http-equiv"):
                    name = meta.attr(attribute)
                    if name:
                        metas.setdefault(name.strip().lower(), content)
        return metas

    def _absolute(self, url: str | None, schemes: tuple[str, ...]) -> str | None:
        """*url* as the page means it; None when it is none of *schemes*, or no URL."""
        if url is None:
            return None
        try:
            absolute: str = ada_url.URL(url, base=self._base).href
        except ValueError:
            return None
        return absolute if absolute.startswith(schemes) and len(absolute) <= MAX_URL_CHARS else None


class _LinkedData:
    """What the JSON-LD of a page says, as far as it is said simply."""

    def __init__(self, tree: Tree) -> None:
        self._things = list(_things(tree.json_ld()))

    def text_in(self, key: str) -> str | None:
        texts = (_bounded(thing[key]) for thing in self._things if isinstance(thing.get(key), str))
        return next((text for text in texts if text), None)

    def name_in(self, key: str) -> str | None:
        names = (_bounded(", ".join(_names(thing.get(key)))) for thing in self._things)
        return next((name for name in names if name), None)


def _things(values: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for value in values:
        for thing in value if isinstance(value, list) else [value]:
            if isinstance(thing, dict):
                graph = thing.get("@graph")
                yield from (part for part in graph if isinstance(part, dict)) if isinstance(graph, list) else [thing]


def _names(value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        name = one.get("name") if isinstance(one, dict) else one
        if isinstance(name, str):
            yield name


def _main(tree: Tree) -> Node | None:
    """The main content, without furniture; None when furniture was nearly all of the page.  Changes *tree*."""
    body = tree.select_one("body")
    if body is None:
        return tree  # a frameset
    body.remove("script, style, template")
    whole = len(body.text)
    for landmark, share in (("main, [role=main]", MAIN_SHARE), ("article", ARTICLE_SHARE)):
        main = body.select_one(landmark)
        if main is not None and len(main.text) >= whole * share:
            return main.remove(FURNITURE)
    body.remove(NAMED_FURNITURE)
    rest = len(body.text)
    if rest < whole * REST_SHARE:
        return None
    scored = body.main_content()
    return scored if scored is not None and len(scored.text) >= rest * SCORED_SHARE else body


def _empty() -> Document:
    return {
        "title": None,
        "byline": None,
        "published": None,
        "language": None,
        "site_name": None,
        "description": None,
        "canonical_url": None,
        "text": None,
        "markdown": None,
        "links": None,
        "media": None,
        "word_count": 0,
        "reading_time_min": 0,
    }


def _count(document: Document, text: str) -> None:
    """Count words; where a script has no spaces between them, characters."""
    document["word_count"] = words = len((_CJK.sub(" x ", text) if _CJK.search(text) else text).split())
    document["reading_time_min"] = ceil(words / WORDS_PER_MINUTE)


def _collapsed(text: str | None) -> str:
    return " ".join(text.split()) if text else ""


def _bounded(text: str | None) -> str | None:
    """One line of metadata.  JSON-LD can hold lone surrogates, which no JSON of ours may."""
    if not text:
        return None
    return _collapsed(text[: 2 * MAX_METADATA_CHARS])[:MAX_METADATA_CHARS].encode(errors="replace").decode() or None
