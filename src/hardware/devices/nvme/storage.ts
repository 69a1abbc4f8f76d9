/** What is on the drive: blocks that were written; the others read as zeros. */

import { MEDIA_BLOCK_BYTES } from "./media.js";

export class BlockStorage {
  readonly #blocks = new Map<number, Uint8Array>();

  /** `offsetBytes` from the start of the namespace. */
  read(offsetBytes: number, target: Uint8Array): void {
    this.#each(offsetBytes, target, (block, at, part) => {
      const bytes = this.#blocks.get(block);
      if (bytes === undefined) part.fill(0);
      else part.set(bytes.subarray(at, at + part.length));
    });
  }

  write(offsetBytes: number, source: Uint8Array): void {
    this.#each(offsetBytes, source, (block, at, part) => {
      let bytes = this.#blocks.get(block);
      if (bytes === undefined) {
        bytes = new Uint8Array(MEDIA_BLOCK_BYTES);
        this.#blocks.set(block, bytes);
      }
      bytes.set(part, at);
    });
  }

  /** Calls with each block that the data touches, the place in it, and that part of the data. */
  #each(
    offsetBytes: number,
    data: Uint8Array,
    use: (block: number, at: number, part: Uint8Array) => void,
  ): void {
    for (let done = 0; done < data.length; ) {
      const at = (offsetBytes + done) % MEDIA_BLOCK_BYTES;
      const count = Math.min(data.length - done, MEDIA_BLOCK_BYTES - at);
      const block = (offsetBytes + done - at) / MEDIA_BLOCK_BYTES;
      use(block, at, data.subarray(done, done + count));
      done += count;
    }
  }
}
