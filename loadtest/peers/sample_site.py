"""The demo's sample site in a process of its own.

python -m loadtest.peers.sample_site
"""

from __future__ import annotations

import asyncio
import signal

from fastmesh.demo.site import SampleSite


async def main() -> None:
    """Serve on a free port until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    site = SampleSite()
    print(f"sample site on {await site.start()}", flush=True)
    await stop.wait()
    await site.close()


if __name__ == "__main__":
    asyncio.run(main())
