"""For a course with many people: handing in, and grading what was handed in."""
