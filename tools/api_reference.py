"""Write ``docs/api.md`` from the comments of the contract; ``--check`` only says whether it is stale."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "api.md"
ORDER = ("conversation_memory", "user_memory", "documents", "administration", "common")
_FILE_COMMENT = (2,)
"""Path of the package statement, whose comment speaks of the whole contract."""
_MESSAGE, _ENUM, _SERVICE, _MEMBER = 4, 5, 6, 2
"""Field numbers of descriptors, of which source locations are made."""


def describe() -> FileDescriptorSet:
    """Compile the contract with its comments."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "contract.binpb"
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT / 'proto'}",
                f"--proto_path={resources.files('grpc_tools') / '_proto'}",
                "--include_source_info",
                f"--descriptor_set_out={output}",
                *(str(ROOT / f"proto/memsidecar/v1/{name}.proto") for name in ORDER),
            ]
        )
        if status != 0:
            sys.exit("protoc failed")
        return FileDescriptorSet.FromString(output.read_bytes())


class Comments:
    """The comments of one file, by path of what they stand before."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {
            tuple(location.path): location.leading_comments.strip()
            for location in file.source_code_info.location
        }

    def paragraph(self, *path: int) -> str:
        """Give a comment with its lines as they are."""
        lines = self._by_path.get(path, "").splitlines()
        return "\n".join(line.removeprefix(" ") for line in lines)

    def cell(self, *path: int) -> str:
        """Give a comment as one line for a table."""
        return " ".join(self.paragraph(*path).split()).replace("|", "\\|")


def type_name(field: FieldDescriptorProto) -> str:
    """Give the type of a field as the contract writes it, with a link where it is one of ours."""
    if field.type_name:
        short = field.type_name.rpartition(".")[2]
        ours = field.type_name.startswith(".memsidecar.")
        name = f"[{short}](#{short.lower()})" if ours else field.type_name.removeprefix(".google.protobuf.")
    else:
        name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    optional = "optional " if field.proto3_optional else ""
    return f"{'repeated ' if repeated else optional}{name}"


def render(files: FileDescriptorSet) -> Iterator[str]:
    """Give the document, line by line."""
    by_name = {Path(file.name).stem: file for file in files.file}
    yield "# API reference"
    yield ""
    yield "Made from the comments in `proto/memsidecar/v1` by `./dev generate`."
    yield ""
    yield Comments(by_name["common"]).paragraph(*_FILE_COMMENT)
    for name in ORDER:
        file = by_name[name]
        comments = Comments(file)
        for index, service in enumerate(file.service):
            yield f"\n## {service.name}\n"
            yield comments.paragraph(_SERVICE, index)
            for number, method in enumerate(service.method):
                request, response = (
                    f"{'stream ' if streaming else ''}[{kind.rpartition('.')[2]}](#{kind.rpartition('.')[2].lower()})"
                    for streaming, kind in (
                        (method.client_streaming, method.input_type),
                        (method.server_streaming, method.output_type),
                    )
                )
                yield f"\n### {method.name}\n\n{request} → {response}\n"
                yield comments.paragraph(_SERVICE, index, _MEMBER, number)
        yield f"\n## Messages of {name}.proto"
        for index, message in enumerate(file.message_type):
            yield from render_message(message, comments, index)
        for index, enum in enumerate(file.enum_type):
            yield from render_enum(enum, comments, index)


def render_message(message: DescriptorProto, comments: Comments, index: int) -> Iterator[str]:
    """Give one message with a table of its fields."""
    yield f"\n### {message.name}\n"
    yield comments.paragraph(_MESSAGE, index)
    if message.field:
        yield "\n| field | type | meaning |\n| --- | --- | --- |"
    for number, field in enumerate(message.field):
        yield f"| `{field.name}` | {type_name(field)} | {comments.cell(_MESSAGE, index, _MEMBER, number)} |"


def render_enum(enum: EnumDescriptorProto, comments: Comments, index: int) -> Iterator[str]:
    """Give one enum with a table of its values."""
    yield f"\n### {enum.name}\n"
    yield comments.paragraph(_ENUM, index)
    yield "\n| value | number | meaning |\n| --- | --- | --- |"
    for number, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {comments.cell(_ENUM, index, _MEMBER, number)} |"


def main() -> None:
    """Write or check the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the document is stale")
    text = "\n".join(render(describe())) + "\n"
    if parser.parse_args().check:
        if not TARGET.exists() or TARGET.read_text() != text:
            sys.exit("docs/api.md is stale; run ./dev generate")
        return
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
