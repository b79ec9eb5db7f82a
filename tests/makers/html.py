"""Read a page back as a reader and a program would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

# https://html.spec.whatwg.org/multipage/syntax.html#void-elements
_VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "wbr",
}


@dataclass(kw_only=True)
class Element:
    """One element, its attributes and what is in it."""

    tag: str
    attributes: Mapping[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, with single spaces."""
        parts = [item if isinstance(item, str) else item.text for item in self.children]
        return " ".join("".join(parts).split())

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements below this one, in the page's order; `data_source` stands for `data-source`."""
        wanted = {name.replace("_", "-").strip("-"): value for name, value in attributes.items()}
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and wanted.items() <= child.attributes.items():
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str, **attributes: str) -> Element:
        """The only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    def everything(self) -> list[Element]:
        """Every element below this one."""
        below = [child for child in self.children if isinstance(child, Element)]
        return [item for child in below for item in (child, *child.everything())]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element(tag="", attributes={})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag=tag, attributes={name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def finish(self) -> Element:
        self.close()
        assert self._open == [self.root], f"<{self._open[-1].tag}> is left open"
        return self.root


def read_html(text: str) -> Element:
    """The page as a tree; every element that may be closed has to be."""
    reader = _Reader()
    reader.feed(text)
    return reader.finish()
