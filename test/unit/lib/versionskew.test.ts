import { expect, test } from 'vitest'
import { tooOld } from '../../../src/lib/versionskew.ts'

test.each([
  ['0.1.0', '0.2.9', undefined],
  ['0.1.0', '0.3.0', 'one'],
  ['0.4.0', '0.2.1', 'other'],
  ['1.0.0', '0.9.0', 'other'],
  ['0.1.0', 'sim', undefined],
  ['', '0.3.0', undefined],
])('%s beside %s', (one, other, old) => expect(tooOld(one, other)).toBe(old))
