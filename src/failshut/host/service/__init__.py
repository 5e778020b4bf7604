"""systemd: units, its sockets for notices and the journal, and the control groups it keeps."""
