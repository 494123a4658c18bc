/** What is pushed can be read, once, as an iterable. */
export class Queue<T> implements AsyncIterable<T> {
  #waiting: T[] = [];
  #ended = false;
  #wake = () => {};

  push(value: T) {
    this.#waiting.push(value);
    this.#wake();
  }

  end() {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.#waiting.length > 0) yield this.#waiting.shift()!;
      if (this.#ended) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
