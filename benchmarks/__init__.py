"""Measures; asserts nothing. Each number beside what people use now, in private network namespaces."""
