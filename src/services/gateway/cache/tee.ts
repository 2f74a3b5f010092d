/** Gives an answer on as it comes, and gathers it at the same time. */
import { Answer } from "../upstream/answer.ts";

/** Makes the answer to give on; `whole` is called once, with the body, or undefined where it is too large or breaks off. */
export function tee(source: Answer, bytesMax: number, whole: (body: Buffer | undefined) => void): Answer {
  let chunks: Buffer[] | undefined = [];
  let size = 0;
  let paused = false;
  const settle = (body: Buffer | undefined) => {
    if (!chunks) return;
    chunks = undefined;
    whole(body);
  };
  const copy = new Answer(source.status, source.said, source.length, {
    pause: () => (paused = true),
    resume() {
      paused = false;
      source.resume();
    },
    cut() {
      settle(undefined);
      source.cut();
    },
  });
  source.read({
    data(chunk) {
      size += chunk.length;
      if (size > bytesMax) settle(undefined);
      else chunks?.push(chunk);
      copy.push(chunk);
      return !paused;
    },
    end() {
      settle(Buffer.concat(chunks ?? [], size));
      copy.finish();
    },
    broken(error) {
      settle(undefined);
      copy.break(error);
    },
  });
  return copy;
}
