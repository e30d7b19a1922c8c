import { X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  fingerprintOf,
  issue,
  makeAuthority,
  makeKey,
  makeRequest,
  pemOf,
  readCertificate,
} from '../../../src/lib/x509.ts'

const YEAR_MS = 365 * 86_400_000
const FROM_MS = Date.UTC(2026, 0, 1)
const validity = { notBeforeMs: FROM_MS, notAfterMs: FROM_MS + YEAR_MS }
const subject = { commonName: 'system:node:mini-1', organization: 'system:nodes' }

async function issued() {
  const authority = await makeAuthority('mctl test', validity)
  const keyPem = await makeKey()
  const requestPem = await makeRequest(keyPem, { commonName: 'root', organization: 'admins' })
  const wanted = { requestPem, subject, uris: ['mctl:uid:1-2'], dnsNames: ['a.mctl'], usage: 'both' as const }
  const certificatePem = await issue(authority, { ...wanted, ...validity })
  return { authority, keyPem, requestPem, certificatePem }
}

describe('certificates', () => {
  it('carry the names that the signer chose, not those that were asked for', async () => {
    const { certificatePem } = await issued()
    expect(readCertificate(certificatePem)).toEqual({
      ...subject,
      uris: ['mctl:uid:1-2'],
      dnsNames: ['a.mctl'],
      serial: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
      issuer: 'mctl test',
      ...validity,
    })
  })

  it('are signed by their authority and by no other', async () => {
    const { authority, certificatePem } = await issued()
    const other = await makeAuthority('mctl test', validity)
    const leaf = new X509Certificate(certificatePem)
    expect(leaf.verify(new X509Certificate(authority.certificatePem).publicKey)).toBe(true)
    expect(leaf.verify(new X509Certificate(other.certificatePem).publicKey)).toBe(false)
    expect(leaf.ca).toBe(false)
    expect(new X509Certificate(authority.certificatePem).ca).toBe(true)
  })

  it('have a fingerprint of their bytes, whatever the text', async () => {
    const { authority } = await issued()
    const { raw } = new X509Certificate(authority.certificatePem)
    expect(fingerprintOf(authority.certificatePem)).toBe(fingerprintOf(raw))
    expect(fingerprintOf(pemOf(raw))).toBe(fingerprintOf(raw))
  })

  it('are refused for requests that are broken or not signed by their own key', async () => {
    const { authority, requestPem } = await issued()
    const from = (pem: string) => issue(authority, { requestPem: pem, subject, usage: 'client', ...validity })
    await expect(from('hello')).rejects.toThrow('certificate request: must be PEM of PKCS #10')
    await expect(from('x'.repeat(9000))).rejects.toThrow('must not be longer than 8192 characters')
    await expect(from(tampered(requestPem))).rejects.toThrow(/must be signed with its own key|must be PEM/)
  })
})

/** One bit of the signature, at the end of the bytes, turned. */
function tampered(pem: string): string {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64')
  const at = der.length - 3
  der[at] = (der[at] ?? 0) ^ 1
  return `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----`
}
