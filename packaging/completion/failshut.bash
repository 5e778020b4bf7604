# failshut's completion for bash: the program says its own, of the version that is installed.
eval "$(_FAILSHUT_COMPLETE=bash_source failshut)"
