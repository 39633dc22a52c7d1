"""What setup_course.py is made of. Standard library only, and no word of it runs once the course has started."""
