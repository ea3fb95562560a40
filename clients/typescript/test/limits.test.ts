/** The limits of the source: lines of a module, lines of a function, and characters of a line. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import ts from "typescript";

const root = join(import.meta.dirname, "..");
const generated = "src/schema.d.ts";
const files = ["src", "test", "e2e", "examples/react/src"].flatMap((directory) =>
  readdirSync(join(root, directory))
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => `${directory}/${name}`),
);

function longFunctions(source: ts.SourceFile): string[] {
  const found: string[] = [];
  const line = (position: number) => source.getLineAndCharacterOfPosition(position).line;
  function visit(node: ts.Node): void {
    const lines = line(node.getEnd()) - line(node.getStart(source)) + 1;
    if (ts.isFunctionLike(node) && lines >= 60)
      found.push(`line ${line(node.getStart(source)) + 1}: ${lines}`);
    ts.forEachChild(node, visit);
  }
  visit(source);
  return found;
}

for (const file of files.filter((name) => name !== generated)) {
  test(`${file} is short`, () => {
    const text = readFileSync(join(root, file), "utf8");
    const lines = text.split("\n");
    assert.ok(lines.length < 400);
    assert.deepEqual(
      lines.filter((each) => each.length > 110),
      [],
    );
    assert.deepEqual(longFunctions(ts.createSourceFile(file, text, ts.ScriptTarget.Latest)), []);
  });
}
