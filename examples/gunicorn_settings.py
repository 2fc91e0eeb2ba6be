"""The settings of gunicorn for an example: local only, one process, four requests at a time."""

bind = "127.0.0.1:0"
threads = 4
control_socket_disable = True  # it would be one file in the home folder for all that run
