/** DESIGN §10: everything listens on loopback until the cluster has identities. */
import { CliError } from '../cli/context.ts'

export function requireLoopback(address: string, what: string): void {
  const host = address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '')
  const isLoopback = host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
  if (!isLoopback)
    throw new CliError(
      `${what} ${address} is not a loopback address. Whoever reaches it could run models and read every prompt: until the cluster has identities (joining with trust is not built yet) mctl listens on 127.0.0.1 only. Use 127.0.0.1:PORT, and an SSH tunnel from elsewhere.`,
    )
}
