"""How fast is each convolution layer, in each pass, against the best other library?

python bench/bench_conv.py                           all named layers, every library installed
python bench/bench_conv.py --quick --filter lenet    seconds: a few rows against PyTorch alone
"""

import argparse
import sys

from fastconv import benchmark

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    benchmark.add_arguments(parser, suite="layers")
    sys.exit(benchmark.run(parser.parse_args()))
