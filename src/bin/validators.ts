/** The last step of `npm run build`: validators ready-made from the schemas. */
import { writeValidators } from '../api/schemas.ts'

writeValidators()
