/** Text from captures and file names, which may hold anything, as what a terminal may see. */

/** On one line, and without the control characters that a terminal obeys. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are the point
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "?");
}
