/**
 * Physical region pages: how a command says where its data lies (NVM Express Base
 * Specification 2.0, 4.1.1).
 *
 * The data is a run of pages of which the first may start late and the last end early. PRP1
 * names the first; PRP2 the second when there are two, otherwise a list of those after the
 * first. A list fills whole pages, and the last entry of a list page that is not enough names
 * the next one. Addresses are as the device sees them.
 */

import { CommandWord, setQuad } from "#arch/nvme";
import { assert } from "#machine";

/** The driver's controllers are set to it (CC.MPS). */
export const NVME_PAGE_BYTES = 4096;
const ENTRY_BYTES = 8;
const ENTRIES_PER_LIST_PAGE = NVME_PAGE_BYTES / ENTRY_BYTES;
const WORDS_PER_LIST_PAGE = NVME_PAGE_BYTES / 4;

/** A stretch of data as the device sees it; elements of a scatter list are such. */
export interface PrpSegment {
  readonly dmaAddress: number;
  /** 0 in the segment behind the last. */
  readonly dmaBytes: number;
}

/** Pages that the segments touch: PRP entries without pointers to further list pages. */
export function prpPageCount(segments: readonly PrpSegment[]): number {
  let pages = 0;
  /** Whether what came so far ends with its page. */
  let wholePages = true;
  for (const { dmaAddress, dmaBytes } of segments) {
    if (dmaBytes === 0) break;
    assert(dmaAddress % 4 === 0, "PRP1 starts at a word");
    assert(wholePages, "only the last segment of PRPs ends within a page");
    const offset = dmaAddress % NVME_PAGE_BYTES;
    assert(pages === 0 || offset === 0, "only the first segment of PRPs starts within a page");
    pages += Math.ceil((offset + dmaBytes) / NVME_PAGE_BYTES);
    wholePages = (offset + dmaBytes) % NVME_PAGE_BYTES === 0;
  }
  return pages;
}

/** List pages that `pages` of data need. */
export function prpListPageCount(pages: number): number {
  if (pages <= 2) return 0;
  // The first page is PRP1's. Every list page but the last gives one entry for the chain.
  const listed = pages - 1;
  return Math.max(1, Math.ceil((listed - 1) / (ENTRIES_PER_LIST_PAGE - 1)));
}

/** Pages that `sizeBytes` of data touch when they start as late in a page as can be. */
export function prpPageCountMax(sizeBytes: number): number {
  return Math.ceil((NVME_PAGE_BYTES - 4 + sizeBytes) / NVME_PAGE_BYTES);
}

/**
 * Sets PRP1 and PRP2 of a command. The lists go to `lists`, page after page, which the
 * caller puts where the device sees them at `listAddresses`. Returns the bytes of `lists`
 * that are filled.
 */
export function layPrps(
  command: Uint32Array,
  segments: readonly PrpSegment[],
  pages: number,
  lists: Uint32Array,
  listAddresses: ArrayLike<number>,
): number {
  assert(pages > 0, "data has a size");
  const isDirect = pages <= 2;
  if (!isDirect) setQuad(command, CommandWord.prp2, listAddresses[0]);
  let page = 0;
  let word = 0;
  for (const { dmaAddress, dmaBytes } of segments) {
    if (dmaBytes === 0) break;
    const end = dmaAddress + dmaBytes;
    for (let at = dmaAddress; at < end; at += NVME_PAGE_BYTES - (at % NVME_PAGE_BYTES), page++) {
      if (page === 0) setQuad(command, CommandWord.prp1, at);
      else if (isDirect) setQuad(command, CommandWord.prp2, at);
      else {
        if (isLastOfListPage(word) && page < pages - 1) {
          word += 2;
          setQuad(lists, word - 2, listAddresses[word / WORDS_PER_LIST_PAGE]);
        }
        setQuad(lists, word, at);
        word += 2;
      }
    }
  }
  assert(page === pages, "the pages are those of the segments");
  return word * 4;
}

function isLastOfListPage(word: number): boolean {
  return (word + 2) % WORDS_PER_LIST_PAGE === 0;
}
