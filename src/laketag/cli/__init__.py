"""What people type: thin commands over the public functions of laketag."""
