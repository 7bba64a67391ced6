"""What a checkout's configs say, read as text: nothing of them is executed."""
