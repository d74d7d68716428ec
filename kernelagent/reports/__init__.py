"""Reports that are rebuilt from run folders: leaderboard in HTML, Markdown and JSON."""
