// uvu's suites, which say why what comes before or after their tests has failed: of the one uvu itself does not say a word, and runs none of them; by the other
// it loses what it would have said of the tests.
import { type Callback, type Context, type Test, suite as uvu } from "uvu";

export function suite<T = Context>(title: string, context?: T): Test<T> {
  const test = uvu<T>(title, context);
  const { before, after } = test;
  const said =
    (when: "before" | "after", hook: Callback<T>): Callback<T> =>
    async (given) => {
      try {
        await hook(given);
      } catch (error) {
        console.error(`${when} the tests of ${title}:`, error);
        if (when === "before") throw error;
        process.on("exit", () => (process.exitCode = 1));
      }
    };
  test.before = Object.assign((hook: Callback<T>) => before(said("before", hook)), { each: before.each });
  test.after = Object.assign((hook: Callback<T>) => after(said("after", hook)), { each: after.each });
  return test;
}
