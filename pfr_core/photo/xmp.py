"""XMP packets: the orientation they state, and the record that detail was synthesised."""

from __future__ import annotations

import re
from xml.dom import minidom
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

from ..support.notice import Notice
from .photo import Provenance

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_EMPTY_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta><?xpacket end="w"?>'
)
DEEPEST = 100
"""Levels of an XMP packet that are taken; those of programs have a tenth of it."""
_BREAKS = {"\n": "\ue00a", "\r": "\ue00d", "\t": "\ue009"}
"""Characters in attributes that a parser reads as spaces unless they are written as numbers, which minidom does not do."""
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([1-8])")

_XMP_PREVIEWS = re.compile(rb"<xmp:Thumbnails\b.*?</xmp:Thumbnails\s*>", re.DOTALL)
_XMP_MOTION = re.compile(rb"(G?Camera:(?:MotionPhoto|MicroVideo)(?:\s*=\s*[\"']|>)\s*)1(?=\s*[\"'<])")


def upright_xmp(xmp: bytes) -> tuple[int | None, bytes]:
    """Return the orientation an XMP packet states (None if it does not), and the packet stating 1."""
    match = _XMP_ORIENTATION.search(xmp)
    return (int(match[2]) if match else None), _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def of_the_picture(xmp: bytes) -> tuple[bool, bytes]:
    """Return whether a video lies behind the picture by its XMP packet, and the packet without that and without previews."""
    still, count = _XMP_MOTION.subn(rb"\g<1>0", xmp)
    return count > 0, _XMP_PREVIEWS.sub(b"", still)


def with_provenance(xmp: bytes | None, provenance: Provenance, notices: list[Notice] | None = None) -> bytes:
    """Return the XMP packet with the record of restoration in it; everything else in the packet is kept.

    Fields: IPTC DigitalSourceType ``compositeWithTrainedAlgorithmicMedia`` (a packet that already says the photo is
    wholly generated keeps saying so), and IPTC 2025.1 AISystemUsed / AISystemVersionUsed with the model's name and
    hash, added to what other systems wrote there. A packet that is not XML is replaced, with a notice.

    >>> b"compositeWithTrainedAlgorithmicMedia" in with_provenance(None, Provenance("default", "00" * 32))
    True
    """
    document = _parse_xmp(xmp) if xmp else None
    if document is None:
        if xmp and notices is not None:
            notices.append(Notice("damaged_xmp", "The photo's XMP is damaged and is replaced by the record of restoration."))
        document = minidom.parseString(_EMPTY_XMP.encode())
    rdf = document.getElementsByTagNameNS(_RDF, "RDF")[0]
    descriptions = [node for node in rdf.childNodes if isinstance(node, minidom.Element) and node.localName == "Description"]
    about = descriptions[0].getAttributeNS(_RDF, "about") if descriptions else ""

    source_type = _SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
    if _take(descriptions, "DigitalSourceType").rsplit("/", 1)[-1] == "trainedAlgorithmicMedia":
        source_type = _SOURCE_TYPES + "trainedAlgorithmicMedia"
    values = {"DigitalSourceType": source_type}
    for name, ours in (("AISystemUsed", provenance.model), ("AISystemVersionUsed", f"sha256:{provenance.sha256}")):
        others = [part for part in _take(descriptions, name).split("; ") if part and not part.startswith("PFR ")]
        values[name] = "; ".join([*others, f"PFR {ours}"])
    body = "".join(f"<Iptc4xmpExt:{name}>{escape(value)}</Iptc4xmpExt:{name}>" for name, value in values.items())
    record = minidom.parseString(
        f'<rdf:Description xmlns:rdf="{_RDF}" xmlns:Iptc4xmpExt="{_IPTC}">{body}</rdf:Description>'.encode()
    ).documentElement
    assert record is not None
    record.setAttributeNS(_RDF, "rdf:about", about)
    for description in descriptions:
        _remove_if_empty(description)  # our own record of an earlier run
    rdf.appendChild(document.importNode(record, deep=True))
    _keep_breaks(document)
    text = "".join(node.toxml() for node in document.childNodes)
    for character, stand_in in _BREAKS.items():
        text = text.replace(stand_in, f"&#{ord(character)};")
    return text.encode()


def _keep_breaks(node: minidom.Node) -> None:
    """Put stand-ins for the characters that the next parser would take for others."""
    if isinstance(node, minidom.Element):
        for name, value in node.attributes.items():
            kept = value
            for character, stand_in in _BREAKS.items():
                kept = kept.replace(character, stand_in)
            if kept != value:
                node.setAttribute(name, kept)
    if isinstance(node, minidom.Text):
        node.data = node.data.replace("\r", _BREAKS["\r"])
    for child in node.childNodes:
        _keep_breaks(child)


def _parse_xmp(xmp: bytes) -> minidom.Document | None:
    if b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:  # XMP has neither; entity bombs do
        return None
    try:
        document = minidom.parseString(xmp.strip(b"\0 \t\r\n"))
    except (ExpatError, ValueError, LookupError):  # no XML, or an unknown encoding
        return None
    return document if _depth(document) < DEEPEST and document.getElementsByTagNameNS(_RDF, "RDF") else None


def _depth(document: minidom.Document) -> int:
    """Return how deeply a document is nested; minidom's own functions call themselves."""
    depth, level = 0, list[minidom.Node](document.childNodes)
    while level:
        depth, level = depth + 1, [child for node in level for child in node.childNodes]
    return depth


def _take(descriptions: list[minidom.Element], name: str) -> str:
    """Remove an IPTC extension property, written as attribute or as element, and return its text."""
    text = ""
    for description in descriptions:
        if description.hasAttributeNS(_IPTC, name):
            text = description.getAttributeNS(_IPTC, name)
            description.removeAttributeNS(_IPTC, name)
        for child in description.getElementsByTagNameNS(_IPTC, name):
            text = "".join(node.data for node in child.childNodes if node.nodeType == node.TEXT_NODE)
            if child.parentNode is not None:
                child.parentNode.removeChild(child)
    return text.strip()


def _remove_if_empty(description: minidom.Element) -> None:
    names = (name for name in description.attributes.keys() if not name.startswith("xmlns"))  # noqa: SIM118
    if not description.childNodes and set(names) <= {"rdf:about"} and description.parentNode is not None:
        description.parentNode.removeChild(description)
