"""Documents from bytes to text and passages, in processes of their own with limits on time and memory."""
