"""LIMITS"""

import math

LIMITS = {None: None, "relu": math.inf, "relu6": 6.0}
