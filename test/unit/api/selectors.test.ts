import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { MctlObject } from '../../../src/api/meta.ts'
import { parseFieldSelector, parseLabelSelector, selectorOf } from '../../../src/api/selectors.ts'
import { isOpError } from '../../../src/lib/errors.ts'
import { event, manifestOf, shard } from './manifests.ts'

const withLabels = (labels?: Record<string, string>) => manifestOf('Node', {}, { labels }) as unknown as MctlObject

describe('labels', () => {
  test.each([
    ['', true],
    ['chip=m4', true],
    ['chip==m4', true],
    ['chip = m4 , zone != b', true],
    ['chip!=m4', false],
    ['chip in (m3, m4)', true],
    ['chip notin (m3,m4)', false],
    ['chip', true],
    ['!chip', false],
    ['!rack', true],
    ['rack!=1', true],
    ['rack notin (1)', true],
    ['rack in (1)', false],
    ['mctl.dev/gpu=yes,chip in (m4),!rack', true],
    ['empty=', true],
    ['rack=', false],
    ['toString', false],
  ])('%j selects {chip: m4, zone: a, mctl.dev/gpu: yes, empty: ""}: %s', (labelSelector, selected) => {
    const object = withLabels({ chip: 'm4', zone: 'a', 'mctl.dev/gpu': 'yes', empty: '' })
    expect(selectorOf({ labelSelector })(object)).toBe(selected)
  })
  test('an object without labels', () => {
    expect(selectorOf({ labelSelector: 'a' })(withLabels())).toBe(false)
    expect(selectorOf({ labelSelector: '!a' })(withLabels())).toBe(true)
  })
  test.each(['a b', 'a in', 'a in b', '=x', 'a=b=c', ',', 'a,,b', 'a in (b', 'a>3', '/a', 'a=b c', '!a=b'])(
    '%j is none',
    (selector) => {
      expect(() => parseLabelSelector(selector)).toThrow(/^unable to parse label selector "/)
    },
  )
})

describe('fields', () => {
  const ready = {
    ...shard({ nodeName: 'mini-1' }, { phase: 'Ready' }),
    metadata: { name: 'd-0-e1-0', namespace: 'default' },
  } as unknown as MctlObject
  test.each([
    ['status.phase=Ready', true],
    ['status.phase!=Ready', false],
    ['spec.nodeName=mini-1,metadata.name==d-0-e1-0', true],
    ['spec.nodeName=mini-2', false],
    ['spec.group=d-0,spec.deployment=d', true],
    ['metadata.namespace=default', true],
    ['involvedObject.uid=', true],
  ])('%j selects the ready shard on mini-1: %s', (fieldSelector, selected) => {
    expect(selectorOf({ fieldSelector })(ready)).toBe(selected)
  })
  test('events of an object', () => {
    expect(
      selectorOf({ fieldSelector: 'involvedObject.uid=u,involvedObject.kind=Node' })(event as unknown as MctlObject),
    ).toBe(true)
  })
  test('a field that cannot be selected by is named', () => {
    expect(() => parseFieldSelector('spec.secret=1')).toThrow(/field label not supported: spec.secret/)
    expect(() => parseFieldSelector('metadata.name')).toThrow(/cannot understand "metadata.name"/)
  })
})

test('any text is a selector or an Invalid, never another error', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(fc.constantFrom('a', '!', '=', ',', ' in ', '(', ')', 'notin')).map((p) => p.join('')),
      ),
      (text) => {
        for (const parse of [parseLabelSelector, parseFieldSelector]) {
          try {
            parse(text)
          } catch (error) {
            if (!isOpError(error, 'Invalid')) throw error
          }
        }
      },
    ),
  )
})
