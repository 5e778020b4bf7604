# failshut's completion for fish: the program says its own, of the version that is installed.
_FAILSHUT_COMPLETE=fish_source failshut | source
