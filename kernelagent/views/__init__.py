"""What a person sees while a run goes on: plain lines, or a live view on a terminal."""
