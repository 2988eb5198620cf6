"""Training the Keras way: compile, fit, evaluate, predict and summary, on every `nn.Module`.

* run.py         the loops; History
* objectives.py  losses, metrics and optimisers from names or objects
* inputs.py      checks of labels and targets
* network.py     the network without the softmax that its loss takes the place of
* callbacks.py   EarlyStopping, ModelCheckpoint, loggers, learning-rate schedules
* checkpoint.py  a training run in one file, to resume from
* progress.py    one line an epoch
* interrupt.py   Ctrl-C between two steps
* summary.py     the table of layers
"""

from .callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    JSONLogger,
    LearningRateScheduler,
    ModelCheckpoint,
    StepScheduler,
)
from .checkpoint import load_checkpoint, load_weights, save_checkpoint
from .run import History, Run, compile, evaluate, fit, predict
from .summary import summary

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "Run",
    "StepScheduler",
    "compile",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_weights",
    "predict",
    "save_checkpoint",
    "summary",
]
