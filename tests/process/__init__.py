"""What a process goes through: Ctrl-C, threads, forks, settings, and too little memory."""
