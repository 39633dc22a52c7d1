"""InstructGPT at one-thousandth scale: a library, a course and a workshop kit for learning RLHF."""

__version__ = "0.2.0"
