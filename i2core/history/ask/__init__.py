"""What people ask of a history, answered as plain values: one answer for command, API and console.

    Span      which moments can be had              `i2 cdp range`
    LogPage   what was changed, page by page        `i2 cdp log`
    versions  what one file was, and when           `i2 cdp find-change`
    changes   what differs between two moments      `i2 cdp diff`

All of it blocks, and belongs into worker threads. It takes its turn at the history by itself.
"""
