"""Source code: blocks are functions, methods and what stands between them, under the names of what they are in.

The content stays as it was sent. Files in a language without a grammar here are split at their blank lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from tree_sitter import Language, Parser

from memsidecar.domain.document_reading import Block
from memsidecar.parsing.plain_text import text_blocks
from memsidecar.parsing.word_sets import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

_GRAMMARS = {
    "bash": ("tree_sitter_bash", "language", "sh bash zsh ksh"),
    "c": ("tree_sitter_c", "language", "c h"),
    "cpp": ("tree_sitter_cpp", "language", "cc cpp cxx hh hpp hxx ino cu"),
    "c_sharp": ("tree_sitter_c_sharp", "language", "cs"),
    "go": ("tree_sitter_go", "language", "go"),
    "java": ("tree_sitter_java", "language", "java"),
    "javascript": ("tree_sitter_javascript", "language", "js jsx mjs cjs"),
    "php": ("tree_sitter_php", "language_php", "php"),
    "python": ("tree_sitter_python", "language", "py pyi pyw"),
    "ruby": ("tree_sitter_ruby", "language", "rb rake"),
    "rust": ("tree_sitter_rust", "language", "rs"),
    "tsx": ("tree_sitter_typescript", "language_tsx", "tsx"),
    "typescript": ("tree_sitter_typescript", "language_typescript", "ts mts cts"),
}
"""Module, function and file extensions by language."""

_WITHOUT_GRAMMAR = (
    "ada asm awk bat clj cljs cmake coffee conf cr css d dart diff dockerfile el elm erl ex exs f f90 fish fs gd gradle"
    " graphql groovy hcl hs ini jl json jsonl kt kts less lisp lua m makefile ml mm nim nix patch pas pl pm properties"
    " proto ps1 r scala scm scss sol sql svelte swift tcl tf toml v vb vhd vue xml xsl yaml yml zig"
)
_LANGUAGE_OF = {
    extension: name for name, (_, _, extensions) in _GRAMMARS.items() for extension in extensions.split()
}
CODE_EXTENSIONS = frozenset(_LANGUAGE_OF) | words(_WITHOUT_GRAMMAR)

_DEFINITIONS = words("""
    function_definition function_declaration generator_function_declaration function_item
    method_definition method_declaration constructor_declaration destructor_declaration
    operator_declaration property_declaration macro_definition method singleton_method
""")
"""Nodes that are one block each."""
_SCOPES = words("""
    class_definition class_declaration abstract_class_declaration class_specifier struct_specifier
    class module singleton_class interface_declaration enum_declaration struct_declaration
    record_declaration trait_declaration impl_item trait_item mod_item struct_item enum_item
    union_item namespace_definition namespace_declaration internal_module
""")
"""Nodes that are named and may hold definitions."""
_WRAPPERS = words("""
    decorated_definition export_statement ambient_declaration template_declaration
    expression_statement lexical_declaration variable_declaration
""")
"""Nodes that stand around a definition and belong to it."""
_FUNCTION_VALUES = frozenset({"arrow_function", "function_expression", "generator_function", "class"})
_TRANSPARENT = words("""
    translation_unit declaration_list class_body interface_body enum_body block body_statement
    field_declaration_list statement_block compilation_unit preproc_if preproc_ifdef preproc_else
    linkage_specification file_scoped_namespace_declaration compound_statement
""")
"""Nodes without a name that may hold definitions."""
_COMMENTS = frozenset({"comment", "line_comment", "block_comment", "attribute_item"})
_NAME_FIELDS = ("name", "declarator", "type")
_DEEPEST = 30


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes ``[start, end)`` that belong together."""

    start: int
    end: int
    path: tuple[str, ...]
    whole: bool = False
    """A definition; else what stands around definitions."""


def code_blocks(content: str, extension: str) -> list[Block]:
    """Give the blocks of a source file.

    Args:
        content: The file.
        extension: Of its name, in lower case without its dot; tells the language.
    """
    language = _LANGUAGE_OF.get(extension)
    if language is None:
        return [Block(block.start, block.end, by_line=True) for block in text_blocks(content)]
    encoded = content.encode()
    positions = _Positions(encoded)
    blocks: list[Block] = []
    for piece in _pieces(_parser(language).parse(encoded).root_node, (), 0, len(encoded), 0):
        start, end = positions.of(piece.start), positions.of(piece.end)
        if not content[start:end].strip():
            continue
        if blocks and blocks[-1].heading_path == piece.path and not piece.whole:
            start = blocks.pop().start
        elif piece.whole:
            start = _line_start(content, start)
            if blocks and blocks[-1].end > start:
                blocks[-1] = replace(blocks[-1], end=start)
        blocks.append(Block(start, end, piece.path, by_line=True))
    return blocks


def _line_start(content: str, place: int) -> int:
    """Take the indentation before a place along."""
    while place and content[place - 1] in " \t":
        place -= 1
    return place


@cache
def _parser(language: str) -> Parser:
    module, function, _ = _GRAMMARS[language]
    return Parser(Language(getattr(import_module(module), function)()))


def _pieces(node: Node, path: tuple[str, ...], start: int, end: int, depth: int) -> Iterator[_Piece]:
    """Cut the bytes ``[start, end)`` of a node at its definitions; a comment goes with what follows it."""
    position = start
    comments_from: int | None = None
    for child in node.children:
        if child.type in _COMMENTS:
            comments_from = child.start_byte if comments_from is None else comments_from
            continue
        first = child.start_byte if comments_from is None else comments_from
        comments_from = None
        definition = _definition_in(child)
        if depth == _DEEPEST or (definition is None and child.type not in _TRANSPARENT):
            continue
        if first > position:
            yield _Piece(position, first, path)
        position = child.end_byte
        if definition is None:
            yield from _pieces(child, path, first, child.end_byte, depth + 1)
        elif definition.type in _SCOPES:
            yield from _pieces(definition, (*path, _name(definition)), first, child.end_byte, depth + 1)
        else:
            yield _Piece(first, child.end_byte, (*path, _name(definition)), whole=True)
    if end > position:
        yield _Piece(position, end, path)


def _definition_in(node: Node) -> Node | None:
    """Give the definition a node is, or is wrapped around."""
    inner: Node | None = node
    for _ in range(_DEEPEST):
        if inner is None or (inner.is_named and inner.type in _DEFINITIONS | _SCOPES):
            return inner
        if inner.type == "variable_declarator":
            value = inner.child_by_field_name("value")
            return inner if value is not None and value.type in _FUNCTION_VALUES else None
        if inner.type not in _WRAPPERS:
            return None
        kinds = _DEFINITIONS | _SCOPES | _WRAPPERS | {"variable_declarator"}
        inner = next((child for child in inner.named_children if child.type in kinds), None)
    return None


def _name(definition: Node) -> str:
    """Give the name of a definition; its type when it has none."""
    named: Node = definition
    while (
        inner := next((n for field in _NAME_FIELDS if (n := named.child_by_field_name(field))), None)
    ) is not None:
        named = inner
    text = named.text if named is not definition else None
    return " ".join(text.decode(errors="replace").split())[:100] if text else definition.type


class _Positions:
    """Turns byte offsets into character offsets, quickly when asked for in rising order."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._byte = 0
        self._character = 0

    def of(self, byte: int) -> int:
        if byte < self._byte:
            self._byte = self._character = 0
        self._character += len(self._encoded[self._byte : byte].decode())
        self._byte = byte
        return self._character
