"""The model's graph run in bare loops: what the processors give when nothing is in the way."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memsidecar.embedding.model_files import InstalledModel


@dataclass(frozen=True)
class Layout:
    """A way to spread runs over processors."""

    name: str
    sessions: int
    """Loaded copies of the graph."""
    callers: int
    """Python threads that call them."""
    threads_per_run: int
    group_tokens: int
    """Word pieces per run; 0 runs every text alone."""
    by_length: bool
    """Sort texts by length first, so that groups are of equal lengths."""


def layouts(processors: int) -> list[Layout]:
    """Every layout worth trying on so many processors."""
    return [
        Layout("one session, a caller per processor, text by text", 1, processors, 1, 0, False),
        Layout("a session per processor, text by text", processors, processors, 1, 0, False),
        Layout("one session on all processors, text by text", 1, 1, processors, 0, False),
        Layout("one session, a caller per processor, groups of 128 in order", 1, processors, 1, 128, False),
        Layout("one session, a caller per processor, groups of 256 in order", 1, processors, 1, 256, False),
        Layout("one session, a caller per processor, groups of 256 by length", 1, processors, 1, 256, True),
        Layout("one session on all processors, groups of 256 by length", 1, 1, processors, 256, True),
    ]


class BareGraph:
    """One layout, loaded."""

    def __init__(self, model: InstalledModel, layout: Layout) -> None:
        self.layout = layout
        self._sessions = [self._load(model) for _ in range(layout.sessions)]

    def seconds_for(self, texts: Sequence[Sequence[int]]) -> float:
        """Run all texts, given as word piece ids, and give the time it took."""
        feeds = [_feed(group) for group in self._groups(texts)]
        remaining = iter(feeds)
        lock = threading.Lock()

        def call(session: onnxruntime.InferenceSession) -> None:
            while True:
                with lock:
                    feed = next(remaining, None)
                if feed is None:
                    return
                session.run(None, feed)

        threads = [
            threading.Thread(target=call, args=(session,))
            for session, _ in zip(itertools.cycle(self._sessions), range(self.layout.callers), strict=False)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    def _load(self, model: InstalledModel) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.layout.threads_per_run
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False
        return onnxruntime.InferenceSession(
            model.graph,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
        )

    def _groups(self, texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
        group: list[Sequence[int]] = []
        for text in sorted(texts, key=len) if self.layout.by_length else texts:
            if group and sum(map(len, group)) + len(text) > self.layout.group_tokens:
                yield group
                group = []
            group.append(text)
        if group:
            yield group


def _feed(texts: Sequence[Sequence[int]]) -> dict[str, Any]:
    shape = (len(texts), max(map(len, texts)))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask}
