/**
 * The one error that reading a capture can end in: which file, where in it, what is wrong, and
 * what the reader can do about it, on one line. Owns nothing.
 */

export type CaptureErrorCode =
  | "ABORTED"
  | "CORRUPT"
  | "EMPTY"
  | "INPUT_OUTPUT"
  | "IS_DIRECTORY"
  | "NOT_A_CAPTURE"
  | "NOT_FOUND"
  | "TRUNCATED"
  | "UNSUPPORTED";

/** Where in the input: a byte of the file as it stands after outer decompression, or a line. */
export type CapturePlace =
  | { readonly unit: "byte"; readonly at: number }
  | { readonly unit: "line"; readonly at: number };

const REMEDIES: Readonly<Record<CaptureErrorCode, string>> = {
  ABORTED: "start again",
  CORRUPT: "copy or record the capture again",
  EMPTY: "record with `trace-cmd record -e dma -e iommu -e swiotlb`",
  INPUT_OUTPUT: "check the file, its permissions and the free space of the temporary directory",
  IS_DIRECTORY: "name the trace file inside it",
  NOT_A_CAPTURE: "give a trace.dat, the text of `cat trace`, `trace-cmd report` or `perf script`",
  NOT_FOUND: "check the path",
  TRUNCATED: "copy the capture again, whole",
  UNSUPPORTED: "convert it to text with `trace-cmd report`",
};

export class CaptureError extends Error {
  readonly code: CaptureErrorCode;
  readonly file: string;
  /** Byte offset, or line number for text; undefined where the whole input is meant. */
  readonly offset: number | undefined;
  readonly remedy: string;

  constructor(
    code: CaptureErrorCode,
    file: string,
    what: string,
    place?: CapturePlace,
    remedy: string = REMEDIES[code],
  ) {
    const where =
      place === undefined
        ? ""
        : place.unit === "line"
          ? `line ${place.at}: `
          : `byte 0x${place.at.toString(16)}: `;
    super(oneLine(`${file}: ${where}${what}; ${remedy}`));
    this.name = "CaptureError";
    this.code = code;
    this.file = file;
    this.offset = place?.at;
    this.remedy = remedy;
  }
}

/** File names and text taken from damaged files may hold anything. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are the point
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "?");
}

/** A failure of the operating system, as the error that names the file. */
export function systemError(file: string, error: unknown): CaptureError {
  if (error instanceof CaptureError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return new CaptureError("NOT_FOUND", file, "there is no such file");
  if (code === "EISDIR") return new CaptureError("IS_DIRECTORY", file, "this is a directory");
  if (code === "ABORT_ERR") return new CaptureError("ABORTED", file, "reading was stopped");
  return new CaptureError("INPUT_OUTPUT", file, `reading failed (${code ?? message})`);
}
