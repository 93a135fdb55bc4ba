// uvu's suites, which say why what comes before their tests has failed: uvu itself runs none of them then, and does not say a word.
import { type Callback, type Context, type Test, suite as uvu } from "uvu";

export function suite<T = Context>(title: string, context?: T): Test<T> {
  const test = uvu<T>(title, context);
  const { before } = test;
  const said = (hook: Callback<T>): void =>
    before(async (given) => {
      try {
        await hook(given);
      } catch (error) {
        console.error(`before the tests of ${title}:`, error);
        throw error;
      }
    });
  test.before = Object.assign(said, { each: before.each });
  return test;
}
