/**
 * A table from line numbers to something that few lines have at a time. It is looked at on every
 * store and every transfer, and written on every wait: a `Map` would be most of their cost.
 */

import { assert } from "./assert.js";

const FIRST_LINES = 1024;
/** In place of a line's place among the values. */
const NONE = 0;

export class LineTable<T> {
  /** By line: where its value is. */
  #places = new Int32Array(FIRST_LINES);
  /** From 1 on; places that are free are undefined. */
  readonly #values: (T | undefined)[] = [undefined];
  readonly #free: number[] = [];

  get(line: number): T | undefined {
    // Beyond the end there is nothing, and an index out of bounds would be slow from then on.
    return line < this.#places.length ? this.#values[this.#places[line]] : undefined;
  }

  /** The line has nothing yet. */
  set(line: number, value: T): void {
    if (line >= this.#places.length) this.#grow(line);
    assert(this.#places[line] === NONE, "a line has one value at most");
    const place = this.#free.pop() ?? this.#values.length;
    this.#values[place] = value;
    this.#places[line] = place;
  }

  /** The line has something. */
  delete(line: number): void {
    const place = this.#places[line];
    assert(place !== NONE, "what is deleted was set");
    this.#places[line] = NONE;
    this.#values[place] = undefined;
    this.#free.push(place);
  }

  #grow(line: number): void {
    const places = new Int32Array(Math.max(line + 1, 2 * this.#places.length));
    places.set(this.#places);
    this.#places = places;
  }
}
