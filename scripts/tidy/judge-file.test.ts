import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeFile } from './judge-file.ts'
import { maskSource } from './mask-source.ts'

const HEADER = '/** What it is responsible for. */\n'

function found(path: string, text: string): string[] {
  return judgeFile(path, HEADER + text).map(({ rule, line }) => `${rule}@${line}`)
}

test('a file that keeps the rules has no findings', () => {
  const text = `import { Failure } from '../base/failure.ts'
import { frame } from './frames/frame.ts'
export const plan = (): string => \`\${frame} \${Failure}\`
`
  assert.deepEqual(found('src/backup/plan.ts', text), [])
})

/** One bad sample per rule; each must be found, and nothing else in it. */
const BAD: readonly [rule: string, path: string, text: string][] = [
  ['ladder', 'src/storage/x.ts', "import { a } from '../backup/a.ts'\n"],
  ['ladder', 'src/storage/x.ts', "import { a } from '../postgres/a.ts'\n"],
  ['ladder', 'src/storage/x.ts', "export type { A } from '../cli/a.ts'\nexport const b = 1\n"],
  ['ladder', 'src/base/x.ts', "const a = await import('../storage/a.ts')\n"],
  ['ladder', 'src/base/x.ts', "const a = new URL('../storage/a.ts', import.meta.url)\n"],
  ['ladder', 'src/cli/x.ts', "import { a } from '../storage/posix/a.ts'\n"],
  ['ladder', 'src/storage/x.test.ts', "import { a } from '../repository/packs/a.ts'\n"],
  ['ladder', 'test/harness/x.ts', "import { a } from '../../src/storage/posix/a.ts'\n"],
  ['ladder', 'src/cli/x.ts', "import { a } from '../../test/harness/a.ts'\n"],
  ['ladder', 'src/unheard/x.ts', 'export const a = 1\n'],
  ['name', 'src/base/string-utils.ts', 'export const a = 1\n'],
  ['name', 'src/base/helpers/x.ts', 'export const a = 1\n'],
  ['name', 'src/base/types.ts', 'export const a = 1\n'],
  ['name', 'src/base/index.ts', 'export const a = 1\n'],
  ['name', 'src/base/camelCase.ts', 'export const a = 1\n'],
  ['barrel', 'src/base/x.ts', "export * from './y.ts'\nexport const a = 1\n"],
  ['barrel', 'src/base/x.ts', "export { a, b } from './y.ts'\nexport type { C } from './z.ts'\n"],
  ['size', 'src/base/x.ts', `const a = 1 + ${'1 + '.repeat(30)}1\n`],
  ['size', 'src/base/x.ts', 'const a = 1\n'.repeat(500)],
  ['size', 'src/base/x.ts', `function f(): void {\n${'  f()\n'.repeat(70)}}\n`],
  ['size', 'src/base/x.ts', `const f = () => {\n${'  f()\n'.repeat(70)}}\n`],
  [
    'size',
    'src/base/x.ts',
    `class C {\n  m(a: A): Map<K, { v: V }> {\n${'    f()\n'.repeat(70)}  }\n}\n`,
  ],
  ['ban', 'src/backup/x.ts', 'const home = process.env.HOME\n'],
  ['ban', 'src/backup/x.ts', 'const t = Date.now()\n'],
  ['ban', 'src/backup/x.ts', 'const t = new Date()\n'],
  ['ban', 'src/backup/x.ts', 'setTimeout(f, 10)\n'],
  ['ban', 'src/backup/x.ts', 'const r = Math.random()\n'],
  ['ban', 'src/backup/x.ts', 'const r = randomBytes(4)\n'],
  ['ban', 'src/backup/x.ts', "console.log('x')\n"],
  ['ban', 'src/backup/x.ts', 'const a: any = 1\n'],
  ['ban', 'test/harness/x.ts', 'const a = b as any\n'],
  ['ban', 'src/backup/x.ts', 'const a: Promise<any> = f()\n'],
  ['ban', 'src/backup/x.ts', 'export enum A { B }\n'],
  ['ban', 'src/backup/x.test.ts', "test.only('x', () => {})\n"],
]

for (const [rule, path, text] of BAD) {
  test(`${rule} is found in ${path}: ${text.slice(0, 50).trim()}`, () => {
    const rules = judgeFile(path, HEADER + text).map((one) => one.rule)
    assert.deepEqual(rules, [rule])
  })
}

test('a file without a header is found, unless it is a test', () => {
  const rules = (path: string) => judgeFile(path, 'export const a = 1\n').map((one) => one.rule)
  assert.deepEqual(rules('src/base/x.ts'), ['header'])
  assert.deepEqual(rules('src/base/x.test.ts'), [])
})

test('what is banned may be spoken of, and is allowed where it belongs', () => {
  const talk = "// Date.now() and process.env\nconst a = 'console.log(any)' + `x: any`\n"
  assert.deepEqual(found('src/backup/x.ts', talk), [])
  assert.deepEqual(found('src/config/x.ts', 'const a = process.env.A\n'), [])
  assert.deepEqual(found('src/base/x.ts', 'const a = Date.now()\n'), [])
  assert.deepEqual(found('src/backup/x.test.ts', 'setTimeout(f, process.env.X)\n'), [])
  assert.deepEqual(found('src/backup/x.ts', 'const a = new Date(ms)\n'), [])
  assert.deepEqual(found('src/backup/x.ts', 'const a = f({ any: 1 }, q.any, [any2])\n'), [])
})

test('a URL of a file that is no module is no import', () => {
  const text = "const a = new URL('../../package.json', import.meta.url)\n"
  assert.deepEqual(found('src/base/x.ts', text), [])
})

test('70 lines are allowed, and a long class or object is no function', () => {
  const fits = `function f(): void {\n${'  f()\n'.repeat(68)}}\n`
  assert.deepEqual(found('src/base/x.ts', fits), [])
  const members = '  a = 1\n'.repeat(100)
  assert.deepEqual(found('src/base/x.ts', `class C extends f(D) {\n${members}}\n`), [])
  assert.deepEqual(found('src/base/x.ts', `class C extends D {\n${members}}\n`), [])
  assert.deepEqual(found('src/base/x.ts', `const o = {\n${'  a: f(),\n'.repeat(100)}}\n`), [])
  assert.deepEqual(found('src/base/x.ts', `if (a) {\n${'  a()\n'.repeat(100)}}\n`), [])
})

test('the mask keeps positions and leaves only code', () => {
  const text = 'a = "x{" // {\nb = `t{${c + `n${d}`}}` /* { */ + /[/{]\\//.test(e) / 2\n'
  const masked = maskSource(text)
  assert.equal(masked.length, text.length)
  assert.equal(masked.replace(/ +/g, ' '), 'a = " " \nb = ` {c + ` {d}`} ` + / /.test(e) / 2\n')
})
