"""Entries: sweeps, what is found odd in them, and `bench`."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.reports.glossary.entry import Entry

SWEEPS: Mapping[str, Entry] = {
    "item": Entry("sweep", "One checkpoint of a sweep: a model at a revision, or a local checkpoint.", stored="item"),
    "run": Entry(
        "sweep",
        "The training run that an item is a step of, by the part of its name before the step.",
        stored="timeline.run",
    ),
    "step": Entry(
        "sweep", "Training step: from the item's name, or from a list file.", stored="timeline.step", also=("steps",)
    ),
    "RMS γ": Entry(
        "sweep",
        "Root mean square gain, mean over layers.",
        formula="‖γ‖ / √H",
        reading="It grows or shrinks with training; a step off the curve may be another run's checkpoint.",
        stored="timeline.rms_gamma",
        also=("rms_gamma",),
    ),
    "r previous": Entry(
        "sweep",
        "Pearson's correlation of each layer's gain with the item before in the run, mean over layers.",
        reading="Near 1 the pattern stands still; a dip is a large change, or a checkpoint that does not belong there.",
        stored="timeline.pearson_previous",
        also=("pearson_previous",),
    ),
    "r last": Entry(
        "sweep",
        "Pearson's correlation of each layer's gain with the last item of the run, mean over layers.",
        reading="It mostly rises; 1 long before the end may be a copy of the final checkpoint.",
        stored="timeline.pearson_last",
        also=("pearson_last",),
    ),
    "drift (sweep)": Entry(
        "sweep",
        "How far the gains moved since the item before, in units of their length, mean over layers.",
        formula="‖γ − γ'‖ / ‖γ'‖",
        stored="timeline.drift",
    ),
    "items": Entry("sweep", "Number of items, or the items that a finding is about.", stored="anomalies.items"),
    "shape": Entry("sweep", "Layers × width of the gains.", stored="items.width", also=("layers × hidden",)),
    "to read": Entry("sweep", "Bytes that a sweep would read of an item.", stored="items.bytes_to_read"),
    "of": Entry("sweep", "Bytes of the whole checkpoint.", stored="checkpoint_bytes"),
    "state": Entry(
        "sweep",
        "Whether an item is done, still to do, or cannot be read, and why.",
        stored="items.done",
        parts={"missing": "number of items still to do", "problem": "why an item cannot be read"},
    ),
    "why": Entry(
        "sweep", "What was wrong with an item that failed; the next run tries it again.", stored="failures.message"
    ),
    "settings": Entry("sweep", "Settings that differ from the usual ones."),
    "!": Entry("sweep", "Marks an item that an anomaly names."),
}

ANOMALIES: Mapping[str, Entry] = {
    "copy": Entry(
        "anomaly",
        "A checkpoint that holds the gains of another step, or is its very file.",
        reading="An anomaly where 32 entries and more had moved and came back to the same bits, or stand still between "
        "steps that move.",
    ),
    "mixed": Entry("anomaly", "Some layers hold the gains of another step: shards of two checkpoints."),
    "swapped": Entry(
        "anomaly",
        "Two checkpoints each of which lies where the other should on the path of training.",
        reading="Not found where noise or rounding hides the path between the two.",
    ),
    "jump": Entry(
        "anomaly",
        "A checkpoint far from both neighbours, which are near each other.",
        reading="In directions that the run takes elsewhere it is a note: gains that follow the learning rate do this.",
    ),
    "convention (sweep)": Entry("anomaly", "The checkpoint holds w where the other steps hold 1 + w, or the reverse."),
    "dead (sweep)": Entry("anomaly", "A layer whose gain has become zero in all channels."),
    "non-finite (sweep)": Entry("anomaly", "Gains with NaN or infinity; such items take no part in anything else."),
    "same gains": Entry(
        "anomaly",
        "A note: items of different runs, or beside each other where hardly anything moves, have the same gains.",
    ),
    "still layers": Entry(
        "anomaly", "A note: layers that stand still while others move: frozen, or small steps lost in bfloat16."
    ),
    "returned layers": Entry(
        "anomaly",
        "A note: layers that come back to the same bits by chance, as gains that wander in few directions and are "
        "stored in 16 bits do.",
    ),
}

_TIMES = {
    "checkpoints_per_second": "extractions per second",
    "tensors_per_second": "gains per second",
    "over_safe_open": "how many times as fast as safe_open",
    "disk_bytes": "bytes that came from the disk itself",
    "safe_open_disk_bytes": "the same of safe_open",
}

BENCH: Mapping[str, Entry] = {
    "stage": Entry(
        "bench",
        "Part of a run that was timed.",
        stored="checkpoints.warm.stages",
        parts={
            "open": "finding the checkpoint and reading its headers",
            "select": "finding the tensors to read",
            "read": "positioned reads of the gains",
            "transfer": "the copy to the device and the cast",
        },
    ),
    "warm ms": Entry(
        "bench", "Median milliseconds with the files in the page cache.", stored="checkpoints.warm", parts=_TIMES
    ),
    "cold ms": Entry(
        "bench",
        "The same after the checkpoint's own files were dropped from the page cache.",
        stored="checkpoints.cold",
        parts=_TIMES,
    ),
    "open, headers": Entry("bench", "Finding the checkpoint and reading its headers."),
    "selection": Entry("bench", "Finding the stacks, sites and tensors to read."),
    "reads": Entry("bench", "Positioned reads of the gains."),
    "to the device": Entry("bench", "The copy to the device, and the cast to the requested precision."),
    "gains, together": Entry("bench", "All stages but the analysis.", also=("extraction",)),
    "analysis": Entry("bench", "Statistics, axes, bounds and verdict."),
    "safe_open, the same gains": Entry(
        "bench", "The peer: safetensors' memory map, reading the same tensors.", also=("safe_open",)
    ),
}

FIELDS: Mapping[str, Entry] = {
    "schema_version": Entry("field", "Version of the file's layout.", stored="schema_version"),
    "model": Entry(
        "field",
        "The checkpoint as it was named; models in a comparison.",
        stored="model",
        also=("models", "checkpoint"),
    ),
    "revision": Entry(
        "field",
        "Commit that a branch or tag meant on the Hub.",
        stored="provenance.commit",
        also=("revisions", "commit"),
    ),
    "num_layers": Entry("field", "Number of layers read; in `inspect`, what config.json says.", stored="num_layers"),
    "keys": Entry("field", "Tensor that each row was read from.", stored="keys", also=("key",)),
    "site_reason": Entry("field", "Where the site stands, and why it was chosen.", stored="site_reason"),
    "answer": Entry(
        "field",
        "The verdict, its support, and the sentence that gives its numbers.",
        stored="answer",
        also=("sentence",),
    ),
    "statistics": Entry("field", "All statistics by name.", stored="statistics"),
    "method": Entry("field", "How the principal axes were found: svd, gram or project.", stored="method"),
    "notes": Entry("field", "What a reader should know, undefined figures among it.", stored="notes", also=("note",)),
    "provenance": Entry(
        "field",
        "Where a result comes from: versions, commit, types, what was read, how long it took.",
        stored="provenance",
        parts={
            "gammatorch": "version; torch and python likewise",
            "torch": "version of PyTorch",
            "python": "version of Python",
            "device": "where it was computed",
            "dtype": "in which precision",
            "bytes_read": "bytes moved from the disk or the network",
            "bytes_cached": "bytes that came from the cache instead",
            "shards": "number of weight files",
            "requests": "number of reads",
            "rounds": "number of reads that had to wait for others",
            "seconds": "wall time of reading and analysis",
        },
    ),
    "stored": Entry(
        "field",
        "Type in which the weights are stored.",
        stored="provenance.stored_dtype",
        also=("stored_dtypes",),
    ),
    "offsets": Entry("field", "What is added to the weights of each checkpoint compared.", stored="offsets"),
    "widths": Entry("field", "Width of each checkpoint's gains; hidden is the first's.", stored="widths"),
    "layer_counts": Entry("field", "Number of layers of each checkpoint.", stored="layer_counts"),
    "against": Entry("field", "The reference of a check or of a pair.", stored="against"),
    "sites": Entry("field", "The sites that were read or found.", stored="sites"),
    "findings": Entry(
        "field",
        "What a check found.",
        stored="findings",
        parts={"level": "error, warning or note", "what": "the kind of finding", "text": "the same with its numbers"},
    ),
    "model_type": Entry("field", "model_type of config.json, which decides the offsets.", stored="model_type"),
    "checkpoint_bytes": Entry("field", "Size of all weight files together.", stored="checkpoint_bytes"),
    "stacks": Entry(
        "field",
        "The stacks of a checkpoint: name, main, layout, sites and their tensors.",
        stored="stacks",
        parts={
            "tensors": "layer, key, shard, dtype and shape of each",
            "bytes": "stored size of a site",
            "shard": "file that holds a tensor",
        },
    ),
    "statistic": Entry("field", "Column of an exported sweep: the figure's name, parts joined by dots."),
    "timeline": Entry("field", "The items of a sweep in the order of their steps.", stored="timeline"),
    "anomalies": Entry(
        "field",
        "What honest training does not do: kind, items, layers, text.",
        stored="anomalies",
        parts={"kind": "what it is, in a word or two", "severity": "anomaly or note"},
    ),
    "failures": Entry("field", "Items that could not be done: name and message.", stored="failures"),
    "planned": Entry(
        "field",
        "Number of items of the plan.",
        stored="planned",
        parts={
            "done": "items analysed in this run",
            "present": "items that were there already",
            "failed": "items that could not be done",
        },
    ),
    "out": Entry("field", "Folder of the sweep.", stored="out"),
    "machine": Entry(
        "field",
        "What `bench` ran on, beside the checkpoints it timed.",
        stored="machine",
        parts={
            "checkpoints": "one entry for each checkpoint that was timed",
            "processor": "name of the processor",
            "cores": "number of cores",
            "system": "operating system",
            "bytes_needed": "bytes of the gains",
            "page_bytes": "bytes of the pages that hold them",
            "repeats": "counted repeats",
        },
    ),
}
