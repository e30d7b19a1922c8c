/** A context says in time that it ends, and what there is to do. */
import { expect, test } from 'vitest'
import { endingText } from '../../../src/cli/config/ends.ts'
import { issue, makeAuthority, makeKey, makeRequest } from '../../../src/lib/x509.ts'

const DAY_MS = 86_400_000
const NOW_MS = Date.UTC(2026, 10, 26)
const FROM = { notBeforeMs: NOW_MS - DAY_MS }

async function aContext(certificateDays: number, ...authorityDays: readonly number[]) {
  const subject = { commonName: 'ann', organization: 'x' }
  const authorities = await Promise.all(
    authorityDays.map((days) => makeAuthority('mctl c', { ...FROM, notAfterMs: NOW_MS + days * DAY_MS })),
  )
  const requestPem = await makeRequest(await makeKey(), subject)
  const until = { ...FROM, notAfterMs: NOW_MS + certificateDays * DAY_MS }
  const certificate = await issue(authorities[0]!, { ...until, requestPem, subject, usage: 'client' })
  return { name: 'home', certificate, authority: authorities.map(({ certificatePem }) => certificatePem).join('\n') }
}

test('a certificate thirty days before its end, an authority a year before', async () => {
  expect(endingText(await aContext(31, 366), NOW_MS)).toBeUndefined()
  expect(endingText(await aContext(29, 366), NOW_MS)).toBe(
    'warning: the certificate of context "home" ends 2026-12-25: mctl config renew',
  )
  expect(endingText(await aContext(-0.5, 366), NOW_MS)).toContain('ended 2026-11-25: an admin makes another one')
  expect(endingText(await aContext(31, 364), NOW_MS)).toContain('`mctl authority rotate`, then you `mctl config renew`')
  // A change of authority is under way: the newer one lasts.
  expect(endingText(await aContext(31, 10, 3650), NOW_MS)).toBeUndefined()
})

test('a context without certificates has nothing that ends', () => {
  expect(endingText({ name: 'home', server: '127.0.0.1:6480' }, NOW_MS)).toBeUndefined()
  expect(endingText({ name: 'home', certificate: 'x', authority: 'y' }, NOW_MS)).toBeUndefined()
})
