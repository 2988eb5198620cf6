"""Training the Keras way: compile, fit, evaluate, predict and summary, on every `nn.Module`.

* compiled.py    compile: optimiser, loss, metrics
* run.py         fit; History
* step.py        one step: forward, backward, update
* measure.py     evaluate, predict, report
* summary.py     summary: the table of layers
* feed.py        batches from arrays, loaders, folders, generators
* objectives.py  losses and optimisers from names or objects     metrics.py   metrics
* targets.py     checks of labels, targets, class weights
* network.py     the network without the softmax that its loss takes the place of
* callbacks.py   EarlyStopping, learning-rate schedules
* loggers.py     CSVLogger, JSONLogger            model_checkpoint.py   ModelCheckpoint
* checkpoint.py  a training run in one file, to resume from, exactly
* restore.py     a checkpoint put back into a run, wholly or not at all
* state_checks.py   what may stand in a state that comes from a file
* confusion.py   confusion matrix, precision, recall
* progress.py    one line an epoch

Of the networks of `models`, for the commands; not imported with the rest:

* recipes.py     how each is trained when nothing is said
* finetuning.py  how a trained one learns new classes
* trained.py     its weights in a checkpoint
"""

from .callbacks import (
    Callback,
    EarlyStopping,
    LearningRateScheduler,
    ReduceLROnPlateau,
    StepScheduler,
)
from .checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from .compiled import compile
from .confusion import Report, classification_report, confusion_matrix
from .loggers import CSVLogger, JSONLogger
from .measure import evaluate, predict, report
from .model_checkpoint import ModelCheckpoint
from .run import History, Run, fit
from .summary import summary

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "Report",
    "Run",
    "StepScheduler",
    "classification_report",
    "compile",
    "confusion_matrix",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_weights",
    "predict",
    "report",
    "save_checkpoint",
    "summary",
]
