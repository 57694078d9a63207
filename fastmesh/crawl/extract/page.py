"""A page's tree, parsed once, and what is read from it beside its main content.  The URLs of links and images are made
absolute in the tree itself, so that the Markdown has them so too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import ada_url
from turbohtml import Document, Element, Namespace, parse

from fastmesh.crawl.extract.document import Image, Link
from fastmesh.crawl.extract.gate import PageFacts
from fastmesh.crawl.net.url import MAX_URL_CHARS

MAX_METADATA_CHARS: Final = 2000
MAX_IMAGES: Final = 100
# Of all texts and URLs: elements and tables stand within one another, and the URL of each link may be as long as the
# page's base.
MAX_CHARS_LOOKED_AT: Final = 50_000_000

LINK_SCHEMES: Final = ("http:", "https:", "mailto:")
IMAGE_SCHEMES: Final = ("http:", "https:")

DESCRIPTIONS: Final = ("description", "og:description", "twitter:description", "dc.description")
BYLINES: Final = ("author", "article:author", "parsely-author", "dc.creator")
DATES: Final = ("article:published_time", "datepublished", "date", "parsely-pub-date", "dc.date", "dcterms.created")
SITES: Final = ("og:site_name", "application-name")

# What no reader sees the text of.
UNSEEN: Final = "script, style, template, noscript"
# A paragraph of prose, not a label.
MIN_PARAGRAPH_CHARS: Final = 40
ARTICLE_MARKUP: Final = "article, main, [role=main], [itemprop=articleBody]"
# What single-page applications are put into; one that holds text was rendered already.
APP_ROOTS: Final = (
    "#root, #app, #__next, #__nuxt, #___gatsby, #svelte, #react-root, #ember-app, app-root, "
    "[ng-app], [data-reactroot], [data-server-rendered], [data-v-app], [ng-version]"
)
MAX_EMPTY_ROOT_CHARS: Final = 80
MAX_ROOTS: Final = 8


class Page:
    """An HTML page of *url*; it may be broken anywhere.  May raise what the parser raises."""

    def __init__(self, html: str, url: str) -> None:
        self.html = html
        self.url = url
        self.tree = parse(html, positions=False)
        self._left_chars = MAX_CHARS_LOOKED_AT
        base = self.tree.select_one("base[href]")
        self._base = url
        if base is not None:
            # A base that is no http URL is not followed: nothing could be fetched from there.
            self._base = self.absolute(base.attr("href"), IMAGE_SCHEMES) or url

    def title(self) -> str | None:
        """What the page is called: by its title, by og:title, or by its first heading."""
        titles = (title.text for title in self.tree.iter_elements("title") if title.namespace is Namespace.HTML)
        heading = self.tree.find("h1")
        candidates = (next(titles, ""), self._meta("og:title"), heading.text if heading is not None else "")
        return next((title for title in map(_collapsed, candidates) if title), None)

    def links(self) -> list[Link]:
        """Every link, in the page's order; an anchor that leads nowhere loses its href, for Markdown's sake."""
        links: list[Link] = []
        for anchor in self.tree.select("a[href]"):
            url = self.absolute(anchor.attr("href"), LINK_SCHEMES)
            if url is None:
                del anchor.attrs["href"]
                continue
            anchor.attrs["href"] = url
            rel = _collapsed(anchor.attr("rel"))
            links.append({"url": url, "text": _collapsed(self._text(anchor)), "rel": rel or None})
        return links

    def images(self) -> list[Image]:
        """The first MAX_IMAGES images; one without an http URL (``data:`` for one) leaves the tree."""
        images: dict[str, Image] = {}
        for image in self.tree.select("img"):
            url = self.absolute(image.attr("src"), IMAGE_SCHEMES)
            if url is None:
                image.decompose()
                continue
            image.attrs["src"] = url
            if len(images) < MAX_IMAGES and url not in images:
                images[url] = {"type": "image", "url": url, "alt": _bounded(image.attr("alt")) or ""}
        return list(images.values())

    def metadata(self) -> dict[str, str | None]:
        """What the page says of itself: in its metas first, then in its JSON-LD."""
        said = _LinkedData(self.tree)
        return {
            "byline": self._first(BYLINES) or said.name_in("author"),
            "published": self._first(DATES) or said.text_in("datePublished"),
            "language": self._language(),
            "site_name": self._first(SITES) or said.name_in("publisher"),
            "description": self._first(DESCRIPTIONS) or said.text_in("description"),
            "canonical_url": self._canonical(),
        }

    def strip(self) -> PageFacts:
        """Remove what no reader sees; return what the gate looks at, counted before that where it must be."""
        scripts = self.tree.select("script:not([type*=json i])")
        script_chars = sum(len(self._text(script)) for script in scripts)
        metas = self._metas
        has_json_ld = self.tree.select_one("script[type='application/ld+json' i]") is not None
        asks_for_js = any("javascript" in self._text(said).lower() for said in self.tree.select("noscript"))
        self.tree.remove(UNSEEN)
        body = self.tree.select_one("body") or self.tree
        roots = self.tree.select(APP_ROOTS)[:MAX_ROOTS]
        return PageFacts(
            html_chars=len(self.html),
            text_chars=len(_collapsed(body.text)),
            paragraphs=sum(len(self._text(p)) >= MIN_PARAGRAPH_CHARS for p in self.tree.iter_elements("p")),
            has_article=self.tree.select_one(ARTICLE_MARKUP) is not None,
            has_opengraph=any(name.startswith("og:") for name in metas),
            has_json_ld=has_json_ld,
            scripts=len(scripts),
            script_chars=script_chars,
            app_markers=any(len(root.text.strip()) <= MAX_EMPTY_ROOT_CHARS for root in roots) + asks_for_js,
        )

    def parsed_again(self) -> Page:
        """Its HTML with nothing removed but what no reader sees, its URLs absolute."""
        page = Page(self.html, self.url)
        page.links()
        page.images()
        page.tree.remove(UNSEEN)
        return page

    def _language(self) -> str | None:
        root = self.tree.root
        said = None if root is None else root.attr("lang") or root.attr("xml:lang")
        return _bounded(said) or self._meta("content-language")

    def _canonical(self) -> str | None:
        link = self.tree.select_one("link[rel~=canonical i][href]")
        return self.absolute(link.attr("href") if link is not None else self._meta("og:url"), IMAGE_SCHEMES)

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

    def absolute(self, url: str | None, schemes: tuple[str, ...] = IMAGE_SCHEMES) -> str | None:
        """*url* as the page means it; None when it is none of *schemes*, or no URL."""
        if url is None or self.exhausted:
            return None
        try:
            absolute: str = ada_url.URL(url, base=self._base).href
        except ValueError:
            return None
        self._left_chars -= len(absolute)
        return absolute if absolute.startswith(schemes) and len(absolute) <= MAX_URL_CHARS else None

    @property
    def exhausted(self) -> bool:
        """Whether the page had more than may be looked at: links, images and facts are those of its beginning."""
        return self._left_chars < 0

    def _text(self, element: Element) -> str:
        """The text of *element*, counted: there may be one such element within another."""
        if self.exhausted:
            return ""
        text = element.text
        self._left_chars -= len(text)
        return text


class _LinkedData:
    """What the JSON-LD of a page says, as far as it is said in the usual form."""

    def __init__(self, tree: Document) -> None:
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


def _collapsed(text: str | None) -> str:
    return " ".join(text.split()) if text else ""


def _bounded(text: str | None) -> str | None:
    """One line of metadata.  JSON-LD can hold lone surrogates, which no JSON of ours may."""
    if not text:
        return None
    return _collapsed(text[: 2 * MAX_METADATA_CHARS])[:MAX_METADATA_CHARS].encode(errors="replace").decode() or None
