"""What runs before the environment exists, or makes it. Standard library only, except for locking/."""
