import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatResults, mergeSection } from './format-results.ts'
import { median } from './measure.ts'
import { CASES, type Sample } from './run-pairs.ts'

const WALLS = { tidemark: [1, 2, 30], pgbackrest: [4, 4, 40] } as const

const SAMPLES: Sample[] = CASES.flatMap((caseName) =>
  (['tidemark', 'pgbackrest'] as const).flatMap((tool) =>
    WALLS[tool].map((wallSeconds, index) => ({
      tool,
      caseName,
      round: index + 1,
      wallSeconds,
      cpuSeconds: 1,
      peakPssBytes: 2 ** 20,
      output: '',
      bytes: 2 ** 20,
    })),
  ),
)

test('a row has medians, minima and the median of the pairs’ ratios', () => {
  const text = formatResults(
    { title: 'A', facts: [['version', '1']], tools: ['tidemark', 'pgbackrest'] },
    SAMPLES,
  )
  assert.match(text, /^## A\n\n- version: 1\n/)
  assert.match(text, /\| full backup \| 3 \| 2\.00 \(1\.00\) \| 4\.00 \(4\.00\) \| 0\.50 \|/)
})

test('a section replaces that of its title and leaves the others', () => {
  const document = '# R\n\ntext\n\n## A\n\nold\n\n## B\n\nkept\n'
  assert.equal(
    mergeSection(document, '## A\n\nnew\n'),
    '# R\n\ntext\n\n## A\n\nnew\n\n## B\n\nkept\n',
  )
  assert.equal(mergeSection('# R\n', '## C\n\nnew\n'), '# R\n\n## C\n\nnew\n')
})

test('the median of an even number of values is the mean of the middle two', () => {
  assert.equal(median([4, 1, 3, 2]), 2.5)
  assert.equal(median([3, 1, 2]), 2)
})
