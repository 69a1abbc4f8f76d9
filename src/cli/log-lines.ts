/** Lines of a log from a file or a pipe, as they come, in bounded memory whatever is in it. */

/** Kernel messages have at most a thousand characters (LOG_LINE_MAX); the rest is dropped. */
const LINE_MAX = 4096;

/** Lines without their ends. */
export async function* logLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let line = "";
  for await (const chunk of chunks) {
    // Bytes that are no UTF-8 do no harm: what matters in a line is ASCII.
    const parts = chunk.toString("latin1").split("\n");
    for (const [index, part] of parts.entries()) {
      if (index > 0) {
        yield line;
        line = "";
      }
      if (line.length < LINE_MAX) line += part.slice(0, LINE_MAX - line.length);
    }
  }
  if (line !== "") yield line;
}
