"""How long does a whole training step take: forward, backward and the optimiser's update?

python bench/bench_train.py                        LeNet-5, the Keras convnet, the MLP; batch 128
python bench/bench_train.py --peers torch,jax --filter lenet5
"""

import argparse
import sys

from fastconv import benchmark

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    benchmark.add_arguments(parser, suite="train")
    sys.exit(benchmark.run(parser.parse_args()))
