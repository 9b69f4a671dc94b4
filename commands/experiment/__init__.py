"""Reading experiment files, and what a run needs beside them."""
