"""Runs the model's graph on groups of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnxruntime

from memsidecar.domain.errors import ModelCorrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memsidecar.embedding.model_files import InstalledModel

_LOG_ERRORS_ONLY: Final = 3


class ModelSession:
    """The loaded graph. ``run`` uses the calling thread alone and may be called from several at once.

    One loaded copy serves every thread: two threads on one session run as fast as two sessions of a thread
    each, and faster than one run spread over two threads, whose parts wait for each other at every operator.

    Raises:
        ModelCorrupt: ONNX Runtime cannot load the file; the message names it.
    """

    def __init__(self, model: InstalledModel) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _LOG_ERRORS_ONLY
        # Shapes vary from run to run: a pattern of allocations learnt for one never fits the next.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(
                model.graph,
                options,
                providers=["CPUExecutionProvider"],
                # It would put the slow operator back that the graph avoids (see onnx_export).
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:
            raise ModelCorrupt(
                f"{model.graph} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {error}"
            ) from error

    def run(self, texts: Sequence[Sequence[int]]) -> list[bytes]:
        """Embed texts given as word piece ids, each 1 to 256 long.

        Returns:
            For each text 384 little endian float32 values, of unit L2 length.
        """
        shape = (len(texts), max(map(len, texts)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return [vector.astype("<f4", copy=False).tobytes() for vector in vectors]
