// Long work shows itself: a live line on a terminal, one line per step elsewhere. Always on standard error,
// so that standard output holds the result alone.
export interface Task {
  /** Replaces what is shown beside the title (how far it is). */
  note(text: string): void;
  done(text?: string): void;
  failed(text?: string): void;
}

export interface Progress {
  start(title: string): Task;
  /** A line of its own. */
  say(text: string): void;
  /** A line where there is no live list to show it better: the caller keeps a task's note up to date beside it. */
  detail(text: string): void;
}

/** Runs `work` as one task: its end is shown, with the seconds it took. */
export async function during<T>(progress: Progress, title: string, work: (task: Task) => Promise<T>): Promise<T> {
  const task = progress.start(title);
  try {
    const result = await work(task);
    task.done();
    return result;
  } catch (error) {
    task.failed();
    throw error;
  }
}

export function progressOn(stream: NodeJS.WriteStream = process.stderr): Progress {
  return stream.isTTY ? live(stream) : plain(stream);
}

/** Says nothing: for tests and library use. */
export const silent: Progress = { start: () => ({ note() {}, done() {}, failed() {} }), say() {}, detail() {} };

const seconds = (began: number): string => `${((performance.now() - began) / 1000).toFixed(1)} s`;

function plain(stream: NodeJS.WritableStream): Progress {
  const say = (text: string) => void stream.write(`${text}\n`);
  return {
    say,
    detail: say,
    start(title) {
      const began = performance.now();
      let note = "";
      return {
        note: (text) => void (note = text),
        done: (text = note) => void stream.write(`  done   ${title}${text ? `: ${text}` : ""} (${seconds(began)})\n`),
        failed: (text = note) => void stream.write(`  FAILED ${title}${text ? `: ${text}` : ""} (${seconds(began)})\n`),
      };
    },
  };
}

function live(stream: NodeJS.WriteStream): Progress {
  const running: { title: string; note: string; began: number }[] = [];
  let drawn = 0;
  let timer: NodeJS.Timeout | undefined;
  const erase = () => {
    if (drawn) stream.write(`\u001b[${drawn}A\u001b[J`);
    drawn = 0;
  };
  const draw = () => {
    erase();
    for (const t of running)
      stream.write(`${`  ...      ${t.title}${t.note ? `: ${t.note}` : ""} (${seconds(t.began)})`.slice(0, stream.columns - 1)}\n`);
    drawn = running.length;
  };
  const tick = () => {
    if (running.length && !timer) timer = setInterval(draw, 200).unref();
    if (!running.length && timer) timer = void clearInterval(timer);
    draw();
  };
  const write = (text: string) => {
    erase();
    stream.write(`${text}\n`);
    draw();
  };
  return {
    say: write,
    detail() {},
    start(title) {
      const entry = { title, note: "", began: performance.now() };
      running.push(entry);
      tick();
      const end = (mark: string, text: string) => {
        running.splice(running.indexOf(entry), 1);
        write(`  ${mark} ${title}${text ? `: ${text}` : ""} (${seconds(entry.began)})`);
        tick();
      };
      return {
        note: (text) => void (entry.note = text),
        done: (text = entry.note) => end("\u001b[32mdone\u001b[0m  ", text),
        failed: (text = entry.note) => end("\u001b[31mFAILED\u001b[0m", text),
      };
    },
  };
}
