/** Where weights come from: the three forms of a source, told apart and checked. */

export type Source =
  | { readonly form: 'HuggingFace'; readonly repository: string }
  | { readonly form: 'File'; readonly name: string }
  | {
      readonly form: 'Url'
      /** Without a fragment. */
      readonly url: string
      /** What its content must be: `#sha256=…` behind the address. */
      readonly sha256?: string
    }

const huggingFaceName = /^[A-Za-z0-9][-A-Za-z0-9._]{0,95}\/[A-Za-z0-9][-A-Za-z0-9._]{0,95}$/
const fileName = /^[A-Za-z0-9][-A-Za-z0-9._+@]{0,254}$/

const FORMS = 'must be hf://org/name, file:NAME (in the models folder of the agents) or https://… (one .gguf file)'

/** The source, or what is wrong with it: with such a text nothing is ever read outside of the models folder. */
export function parseSource(text: string): Source | { readonly form: 'Invalid'; readonly fault: string } {
  if (text.startsWith('hf://')) return parseHuggingFace(text.slice('hf://'.length))
  if (text.startsWith('file:')) return parseFile(text.slice('file:'.length))
  if (text.startsWith('https://')) return parseUrl(text)
  return { form: 'Invalid', fault: FORMS }
}

function parseHuggingFace(repository: string): ReturnType<typeof parseSource> {
  if (!huggingFaceName.test(repository) || repository.includes('..') || repository.includes('--'))
    return { form: 'Invalid', fault: 'must be hf://org/name, for example hf://mlx-community/Qwen2.5-7B-Instruct-4bit' }
  return { form: 'HuggingFace', repository }
}

function parseFile(name: string): ReturnType<typeof parseSource> {
  if (!fileName.test(name))
    return {
      form: 'Invalid',
      fault:
        'must be file:NAME, the name of a folder or file in the models folder of the agents: letters, digits and . _ + @ -, without slashes',
    }
  return { form: 'File', name }
}

function parseUrl(text: string): ReturnType<typeof parseSource> {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || /\s/.test(text)) return { form: 'Invalid', fault: 'must be a valid https:// address' }
  if (url.username !== '' || url.password !== '')
    return { form: 'Invalid', fault: 'must not carry a user name or password: manifests are no place for secrets' }
  if (!url.pathname.endsWith('.gguf'))
    return { form: 'Invalid', fault: 'must end in .gguf: https:// sources are one GGUF file' }
  const [, sha256] = /^#sha256=([0-9a-f]{64})$/.exec(url.hash) ?? []
  if (url.hash !== '' && sha256 === undefined)
    return { form: 'Invalid', fault: 'may end in #sha256= and 64 hexadecimal digits, and in no other fragment' }
  url.hash = ''
  return { form: 'Url', url: url.href, ...(sha256 === undefined ? {} : { sha256 }) }
}
